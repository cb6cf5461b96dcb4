"""A Kafka broker for one machine: KRaft, broker and controller in one JVM, started from the classpath that Maven fetched."""

from __future__ import annotations

import base64
import re
import subprocess
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from include.config import Settings
from include.contracts.topics import Topic, topics_for
from include.platform.files import write_if_changed
from include.platform.java import find_java
from include.platform.service import Service, Unhealthy

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

MAX_MESSAGE_BYTES = 4 * 1024 * 1024

LOGGING = """\
status = warn
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = info
logger.network.name = org.apache.kafka.network
logger.network.level = warn
appender.console.name = console
appender.console.type = Console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd HH:mm:ss,SSS} %-5p %c{1} - %m%n
"""


def server_properties(settings: Settings) -> str:
    host, directory = settings.host, settings.home.resolve() / "kafka" / "data"
    properties = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{host}:{settings.kafka_controller_port}",
        "listeners": f"PLAINTEXT://{host}:{settings.kafka_port},CONTROLLER://{host}:{settings.kafka_controller_port}",
        "advertised.listeners": f"PLAINTEXT://{host}:{settings.kafka_port}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": directory,
        "auto.create.topics.enable": "false",
        "message.max.bytes": MAX_MESSAGE_BYTES,
        "replica.fetch.max.bytes": MAX_MESSAGE_BYTES,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 1,
        "group.initial.rebalance.delay.ms": 0,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
    }
    return "".join(f"{key}={value}\n" for key, value in properties.items())


def _java(settings: Settings, heap_mb: int, main_class: str, compiler: int = 4) -> tuple[str, ...]:
    """:param compiler: the last stage of compilation, 1 for what ends before more of it pays"""
    classpath = settings.jars.resolve() / "kafka"
    if not any(classpath.glob("kafka_*.jar")):
        raise FileNotFoundError(f"no broker in {classpath}: fetch it with `make jars`")
    logging = settings.home.resolve() / "kafka" / "log4j2.properties"
    options = (
        f"-Xms{heap_mb // 2}m",
        f"-Xmx{heap_mb}m",
        "-XX:+UseSerialGC",
        f"-XX:TieredStopAtLevel={compiler}",
        "-Djava.awt.headless=true",
    )
    return (find_java(), *options, f"-Dlog4j2.configurationFile={logging}", "-cp", f"{classpath}/*", main_class)


def _cluster_id() -> str:
    """Kafka's form of a UUID: 22 characters of URL-safe base64 that must not look like an option."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        continue
    return text


def prepare_kafka(settings: Settings) -> None:
    """Write the broker's configuration and format its storage, once. Raises :class:`RuntimeError` with what the tool said."""
    directory = settings.home.resolve() / "kafka"
    write_if_changed(directory / "log4j2.properties", LOGGING)
    write_if_changed(directory / "server.properties", server_properties(settings))
    if (directory / "data" / "meta.properties").is_file():
        return
    command = (
        *_java(settings, 256, "kafka.tools.StorageTool", compiler=1),
        "format",
        "-t",
        _cluster_id(),
        "-c",
        str(directory / "server.properties"),
    )
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"Kafka's storage can't be formatted in {directory}: {(done.stdout + done.stderr).strip()[-500:]}")


def kafka_command(settings: Settings) -> tuple[str, ...]:
    return (*_java(settings, 512, "kafka.Kafka"), str(settings.home.resolve() / "kafka" / "server.properties"))


def _admin(settings: Settings) -> AdminClient:
    from confluent_kafka.admin import AdminClient

    # The client logs each refused connection itself; the caller reports the outcome.
    return AdminClient({"bootstrap.servers": settings.bootstrap, "socket.timeout.ms": 3000, "log_level": 0})


def existing_topics(settings: Settings, timeout_s: float = 3.0) -> set[str]:
    """Names on the broker. Raises :class:`Unhealthy` when it does not answer."""
    from confluent_kafka import KafkaException

    try:
        return set(_admin(settings).list_topics(timeout=timeout_s).topics)
    except KafkaException as error:
        raise Unhealthy(f"no answer from {settings.bootstrap}: {error.args[0].str()}") from error


def full_name(settings: Settings, topic: Topic) -> str:
    return settings.topic_prefix + topic.name


def create_topics(settings: Settings, pools: tuple[str, ...] = (), timeout_s: float = 30.0) -> None:
    """Create whichever of Atelier's topics are missing, for ``pools`` or else the configured ones."""
    from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

    existing = existing_topics(settings, timeout_s)
    missing = [topic for topic in topics_for(pools or settings.pools) if full_name(settings, topic) not in existing]
    new = [NewTopic(full_name(settings, t), num_partitions=t.partitions, replication_factor=1, config=t.config) for t in missing]
    admin = _admin(settings)  # held until the answers are in: they fail when it is collected
    for name, future in admin.create_topics(new, operation_timeout=timeout_s).items() if new else ():
        _await_creation(name, future, timeout_s)


def _await_creation(name: str, future: object, timeout_s: float) -> None:
    from confluent_kafka import KafkaError, KafkaException

    try:
        future.result(timeout_s)  # type: ignore[attr-defined]
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise RuntimeError(f"topic {name} can't be created: {error.args[0].str()}") from error


def delete_topics(settings: Settings, timeout_s: float = 30.0) -> None:
    """Delete every topic that starts with the settings' prefix, which must not be empty."""
    if not re.fullmatch(r"[A-Za-z0-9._-]+", settings.topic_prefix):
        raise ValueError("topic_prefix is empty: refusing to delete every topic of the broker")
    names = [name for name in existing_topics(settings) if name.startswith(settings.topic_prefix)]
    admin = _admin(settings)
    for future in admin.delete_topics(names, operation_timeout=timeout_s).values() if names else ():
        future.result(timeout_s)


def kafka_service(settings: Settings) -> Service:
    def check() -> None:
        existing_topics(settings)

    ours = not settings.kafka_bootstrap
    return Service(
        name="kafka",
        command=kafka_command(settings) if ours else (),
        prepare=(lambda: prepare_kafka(settings)) if ours else (lambda: None),
        check=check,
        on_healthy=lambda: create_topics(settings),
        url=settings.bootstrap,
        stop_s=20,
    )


def data_directory(settings: Settings) -> Path:
    return settings.home / "kafka" / "data"
