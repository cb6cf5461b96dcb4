"""A Flink session cluster from the Python wheel: its home directory, its two processes, its checks."""

from __future__ import annotations

import filecmp
import os
import shutil
import sys
import sysconfig
import threading
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from include.config import PROJECT_ROOT, Settings
from include.platform.files import write_if_changed
from include.platform.http import probe_json
from include.platform.java import find_java
from include.platform.ports import free_port, is_free
from include.platform.service import Service, Unhealthy

SLOTS = 4

#: JobManager and TaskManager share one home and are started at the same time.
_layout = threading.Lock()

LOGGING = """\
rootLogger.level = INFO
rootLogger.appenderRef.{appender}.ref = {appender}
appender.console.name = console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{{yyyy-MM-dd HH:mm:ss,SSS}} %-5p %c{{1}} - %m%n
appender.file.name = file
appender.file.type = FILE
appender.file.append = false
appender.file.fileName = ${{sys:log.file}}
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{{yyyy-MM-dd HH:mm:ss,SSS}} %-5p %c{{1}} - %m%n
logger.kafka.name = org.apache.kafka
logger.kafka.level = WARN
logger.pekko.name = org.apache.pekko
logger.pekko.level = WARN
logger.checkpoints.name = org.apache.flink.runtime.checkpoint
logger.checkpoints.level = WARN
# The committer of each sink registers one metric anew at every checkpoint and is warned every time.
logger.metrics.name = org.apache.flink.metrics.MetricGroup
logger.metrics.level = ERROR
logger.netty.name = org.jboss.netty.channel.DefaultChannelPipeline
logger.netty.level = OFF
"""


def wheel() -> Path:
    """The installed wheel's directory, found without importing it. Raises :class:`FileNotFoundError`."""
    spec = find_spec("pyflink")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("apache-flink is not installed: build the environment with `make env`")
    return Path(spec.origin).parent


def flink_home(settings: Settings) -> Path:
    return settings.home.resolve() / "flink"


def checkpoint_directory(settings: Settings) -> Path:
    return flink_home(settings) / "checkpoints"


def savepoint_directory(settings: Settings) -> Path:
    return flink_home(settings) / "savepoints"


def flink_environment(settings: Settings) -> dict[str, str]:
    """What the wheel's scripts need to find our home, and Python workers to find our code."""
    home = flink_home(settings)
    return {
        "FLINK_HOME": str(home),
        "FLINK_CONF_DIR": str(home / "conf"),
        "FLINK_LIB_DIR": str(home / "lib"),
        "FLINK_OPT_DIR": str(home / "opt"),
        "FLINK_PLUGINS_DIR": str(home / "plugins"),
        "FLINK_LOG_DIR": str(home / "log"),
        "FLINK_PID_DIR": str(home / "pids"),
        "JAVA_HOME": str(Path(find_java()).resolve().parent.parent),
        "PYTHONPATH": str(PROJECT_ROOT),
    }


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _rpc_port(settings: Settings) -> int:
    """The JobManager's inner port: the one it had, so that a restart meets its TaskManagers again, unless someone took it."""
    path = flink_home(settings) / "conf" / "config.yaml"
    port = int(yaml.safe_load(path.read_text()).get("jobmanager.rpc.port", 0)) if path.is_file() else 0
    ours = port and (is_free(port, settings.host) or not is_free(settings.flink_port, settings.host))
    return port if ours else free_port(settings.host)


def _python_options() -> dict[str, Any]:
    return {
        "python.execution-mode": "thread",
        "python.executable": sys.executable,
        "python.client.executable": sys.executable,
        "python.pythonpath": os.pathsep.join((sysconfig.get_paths()["purelib"], str(PROJECT_ROOT))),
    }


def flink_configuration(settings: Settings) -> dict[str, Any]:
    """Our settings over those that the wheel ships, which hold the module openings that Java 17 asks for."""
    home = flink_home(settings)
    shipped = _flatten(yaml.safe_load((wheel() / "conf" / "config.yaml").read_text()))
    return {
        **shipped,
        # Small heaps on few cores: what a parallel collector saves in pauses it costs in barriers and threads.
        "env.java.opts.all": f"{shipped['env.java.opts.all']} -XX:+UseSerialGC",
        # Client and JobManager compute little: their compiler would take more from the TaskManager beside them than it gives back.
        "env.java.opts.client": "-XX:TieredStopAtLevel=1",
        "env.java.opts.jobmanager": "-XX:TieredStopAtLevel=1",
        "jobmanager.rpc.address": settings.host,
        "jobmanager.rpc.port": _rpc_port(settings),
        "jobmanager.bind-host": settings.host,
        "jobmanager.memory.process.size": "1024m",
        "taskmanager.host": settings.host,
        "taskmanager.bind-host": settings.host,
        "taskmanager.memory.process.size": "1536m",
        "taskmanager.memory.managed.size": "64m",
        "taskmanager.numberOfTaskSlots": SLOTS,
        "rest.address": settings.host,
        "rest.bind-address": settings.host,
        "rest.port": settings.flink_port,
        "rest.bind-port": str(settings.flink_port),
        "heartbeat.interval": 1000,
        "heartbeat.timeout": 10000,
        "cluster.processes.halt-on-fatal-error": True,
        "io.tmp.dirs": str(home / "tmp"),
        "execution.checkpointing.dir": checkpoint_directory(settings).as_uri(),
        "execution.checkpointing.savepoint-dir": savepoint_directory(settings).as_uri(),
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "execution.checkpointing.num-retained": 3,
        "state.backend.type": "hashmap",
        "restart-strategy.type": "exponential-delay",
        "restart-strategy.exponential-delay.initial-backoff": "1s",
        "restart-strategy.exponential-delay.max-backoff": "15s",
        **_python_options(),
    }


def _link_all(directory: Path, targets: Iterable[Path]) -> None:
    """Make ``directory`` hold a link to each target and nothing else. Flink follows linked entries but no linked folder."""
    directory.mkdir(parents=True, exist_ok=True)
    wanted = {target.name: target for target in targets}
    for link in directory.iterdir():
        if link.name not in wanted or link.readlink() != wanted[link.name]:
            link.unlink()
    for name, target in wanted.items():
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(target)


def _libraries(settings: Settings) -> list[Path]:
    connectors = sorted((settings.jars.resolve() / "flink").glob("*.jar"))
    if not connectors:
        raise FileNotFoundError(f"no Kafka connector in {settings.jars.resolve() / 'flink'}: fetch it with `make jars`")
    return [*(wheel() / "lib").glob("*.jar"), *(wheel() / "opt").glob("flink-python-*.jar"), *connectors]


def _copy_script(script: Path, copy: Path) -> None:
    if not copy.is_file() or not filecmp.cmp(script, copy, shallow=False):  # a running shell must not lose the file it reads
        shutil.copy2(script, copy)
        copy.chmod(0o755)


def prepare_flink(settings: Settings) -> Path:
    """Lay out FLINK_HOME and return it. The scripts are copied: run through a link they would take the wheel for their home."""
    with _layout:
        return _lay_out(settings)


def _lay_out(settings: Settings) -> Path:
    home = flink_home(settings)
    for name in ("bin", "conf", "log", "pids", "tmp", "checkpoints", "savepoints"):
        (home / name).mkdir(parents=True, exist_ok=True)
    for script in (wheel() / "bin").iterdir():
        _copy_script(script, home / "bin" / script.name)
    _link_all(home / "lib", _libraries(settings))
    _link_all(home / "opt", (wheel() / "opt").iterdir())
    _link_all(home / "plugins", (wheel() / "plugins").iterdir())
    write_if_changed(home / "conf" / "config.yaml", yaml.safe_dump(flink_configuration(settings), width=10_000))
    write_if_changed(home / "conf" / "log4j-console.properties", LOGGING.format(appender="console"))
    for name in ("log4j-cli.properties", "log4j.properties"):
        write_if_changed(home / "conf" / name, LOGGING.format(appender="file"))
    return home


def check_jobmanager(settings: Settings) -> None:
    probe_json(f"{settings.flink}/overview")


def check_taskmanager(settings: Settings) -> None:
    overview = probe_json(f"{settings.flink}/overview")
    if not overview["slots-total"]:
        raise Unhealthy("the JobManager knows no TaskManager with a slot")


def jobmanager_service(settings: Settings) -> Service:
    return Service(
        name="flink-jobmanager",
        command=(str(flink_home(settings) / "bin" / "jobmanager.sh"), "start-foreground"),
        env=flink_environment(settings),
        prepare=lambda: prepare_flink(settings),
        check=lambda: check_jobmanager(settings),
        url=settings.flink,
    )


def taskmanager_service(settings: Settings) -> Service:
    return Service(
        name="flink-taskmanager",
        command=(str(flink_home(settings) / "bin" / "taskmanager.sh"), "start-foreground"),
        env=flink_environment(settings),
        prepare=lambda: prepare_flink(settings),
        check=lambda: check_taskmanager(settings),
        url=settings.flink,
    )
