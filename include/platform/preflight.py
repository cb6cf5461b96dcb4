"""What the machine needs before anything is downloaded: ``python3 -m include.platform.preflight``.

Standard library only, and syntax that Python 3.8 still reads: a system that has nothing yet must be told what it lacks, not a traceback.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Sequence  # noqa: UP035  (Python 3.8 runs this file)

from include.platform.java import MINIMUM, find_java, java_version
from include.platform.ports import holder, is_free

PYTHONS = ((3, 11), (3, 12))

#: Setting, default port, what listens there.
PORTS = (
    ("ATELIER_KAFKA_PORT", 9092, "the Kafka broker"),
    ("ATELIER_KAFKA_CONTROLLER_PORT", 9093, "Kafka's controller"),
    ("ATELIER_FLINK_PORT", 8081, "Flink"),
    ("ATELIER_MLFLOW_PORT", 5000, "MLflow"),
    ("ATELIER_AIRFLOW_PORT", 8080, "Airflow"),
    ("ATELIER_GATEWAY_PORT", 8000, "the gateway"),
)

#: How each system's package manager calls what may be missing.
INSTALL = {
    "brew": {"python": "brew install python@3.12", "jdk": "brew install openjdk@17", "maven": "brew install maven"},
    "apt-get": {
        "python": "sudo apt-get install -y python3.11 python3.11-venv",
        "jdk": "sudo apt-get install -y openjdk-17-jdk-headless",
        "maven": "sudo apt-get install -y maven",
    },
    "dnf": {
        "python": "sudo dnf install -y python3.11",
        "jdk": "sudo dnf install -y java-17-openjdk-headless",
        "maven": "sudo dnf install -y maven",
    },
    "zypper": {
        "python": "sudo zypper install -y python311",
        "jdk": "sudo zypper install -y java-17-openjdk-headless",
        "maven": "sudo zypper install -y maven",
    },
}


class Problem(NamedTuple):
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}"


def package_manager(system: str) -> str:
    """The first that is there; else the usual one of the system, whose command at least tells the package's name."""
    candidates = ["brew"] if system == "Darwin" else [name for name in INSTALL if name != "brew"]
    return next((name for name in candidates if shutil.which(name)), candidates[0])


def check_system(system: str) -> Problem | None:
    if system in ("Linux", "Darwin"):
        return None
    return Problem(f"{system or 'this system'} is neither Linux nor macOS", "on Windows, run Atelier inside WSL 2 (`wsl --install`)")


def check_python(version: tuple[int, int], install: dict[str, str]) -> Problem | None:
    if PYTHONS[0] <= version <= PYTHONS[1]:
        return None
    return Problem(f"Python {version[0]}.{version[1]} is neither 3.11 nor 3.12", f"{install['python']}, then `make PYTHON=python3.11 ...`")


def check_venv(install: dict[str, str]) -> Problem | None:
    """Debian splits the standard library: a Python without this part can't make an environment, unless uv does it."""
    if shutil.which("uv") or find_spec("ensurepip"):
        return None
    return Problem("this Python can't make virtual environments", install["python"])


def check_java(install: dict[str, str]) -> Problem | None:
    try:
        found = java_version(find_java())
    except OSError:
        found = 0
    if found >= MINIMUM:
        return None
    what = f"JDK {found} is too old, {MINIMUM} or later is needed" if found else f"no JDK {MINIMUM} or later"
    return Problem(what, install["jdk"])


def check_maven(install: dict[str, str]) -> Problem | None:
    return None if shutil.which("mvn") else Problem("no Maven (mvn)", install["maven"])


def machine_problems() -> list[Problem]:
    system = platform.system()
    wrong = check_system(system)
    if wrong:
        return [wrong]
    install = INSTALL[package_manager(system)]
    found = (check_python(sys.version_info[:2], install), check_venv(install), check_java(install), check_maven(install))
    return [problem for problem in found if problem]


def environment(root: Path) -> dict[str, str]:
    """The process's variables over those of the project's ``.env``, as the settings read them."""
    path = root / ".env"
    lines = path.read_text().splitlines() if path.is_file() else []
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.lstrip().startswith("#"))
    written = {key.strip(): value.strip().strip("'\"") for key, value in pairs}
    return {**written, **os.environ}


def ports(variables: dict[str, str]) -> list[tuple[str, str, str]]:
    """Variable, its value and purpose of each port that the local profile will listen on."""
    elsewhere = {"ATELIER_KAFKA_PORT": "ATELIER_KAFKA_BOOTSTRAP", "ATELIER_KAFKA_CONTROLLER_PORT": "ATELIER_KAFKA_BOOTSTRAP"}
    elsewhere["ATELIER_MLFLOW_PORT"] = "ATELIER_MLFLOW_URI"
    return [(name, variables.get(name) or str(port), what) for name, port, what in PORTS if not variables.get(elsewhere.get(name, ""))]


def is_own(pid: int, home: Path) -> bool:
    """Whether the process belongs to this installation; where the system does not tell, its command line must name the home."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"ATELIER_HOME=" + os.fsencode(home) in variables and any(entry.startswith(b"ATELIER_SERVICE=") for entry in variables)


def check_port(name: str, value: str, what: str, host: str, home: Path) -> Problem | None:
    if not value.isdigit() or not 0 < int(value) < 65536:
        return Problem(f"{name} is {value!r}", "choose a number from 1 to 65535")
    port = int(value)
    if is_free(port, host):
        return None
    found = holder(port)
    if found and (is_own(found[0], home) or str(home) in found[1]):
        return None
    by = f"pid {found[0]} ({found[1][:80]})" if found else "a process of another user"
    other = port + 10000 if port < 55000 else port - 10000
    return Problem(f"port {port} for {what} is taken by {by}", f"end it, or choose another: export {name}={other}")


def port_problems(root: Path) -> list[Problem]:
    variables = environment(root)
    home = Path(variables.get("ATELIER_HOME") or root / ".atelier").resolve()
    host = variables.get("ATELIER_HOST") or "127.0.0.1"
    found = [check_port(name, value, what, host, home) for name, value, what in ports(variables)]
    twice = {value for _, value, _ in ports(variables) if [v for _, v, _ in ports(variables)].count(value) > 1}
    same = [Problem(f"port {value} is chosen for more than one service", "give each ATELIER_*_PORT its own") for value in sorted(twice)]
    return [problem for problem in found if problem] + same


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints one line for each problem; 1 when there is any."""
    parser = argparse.ArgumentParser(prog="preflight", description="Check what this machine needs to run Atelier.")
    parser.add_argument("--ports", action="store_true", help="check the ports of the local profile, too")
    options = parser.parse_args(arguments)
    root = Path(__file__).resolve().parent.parent.parent
    problems = machine_problems() + (port_problems(root) if options.ports else [])
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
