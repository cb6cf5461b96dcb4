"""The Java that runs Kafka and Flink."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

MINIMUM = 17


def find_java() -> str:
    """The path of ``java``: JAVA_HOME's before PATH's. Raises :class:`FileNotFoundError`."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which(str(Path(home, "bin", "java"))) if home else shutil.which("java")
    if found is None:
        raise FileNotFoundError(f"no java in {home or 'PATH'}: install a JDK, {MINIMUM} or later")
    return found


def java_version(java: str) -> int:
    """The major version, 0 when ``java`` does not run (macOS ships a stub that only says where to get one)."""
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', said)
    return int(found.group(1)) if found else 0
