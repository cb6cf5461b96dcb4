"""Other projects that benchmarks compare with, each in an environment of its own outside the repository."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CACHE = Path.home() / ".cache" / "atelier-bench"


class PeerUnavailable(RuntimeError):
    """The peer could not be installed; the message says why, for the benchmark's JSON."""


def peer_python(*requirements: str) -> Path:
    """The interpreter of an environment with exactly these pinned packages; made at the first call, which takes minutes.

    Raises :class:`PeerUnavailable`.
    """
    folder = CACHE / "environments" / hashlib.sha256("\n".join((sys.version, *requirements)).encode()).hexdigest()[:16]
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"installing {', '.join(requirements)}", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
        _run(uv, "venv", "--quiet", "--python", sys.executable, str(folder))
        _run(uv, "pip", "install", "--quiet", "--python", str(python), *requirements)
        (folder / "complete").touch()
    return python


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerUnavailable(str(error)) from error
    if done.returncode:
        raise PeerUnavailable(done.stderr.strip()[-500:])


class PeerProcess:
    """A program in a peer's environment that answers each line of JSON with one."""

    def __init__(self, python: Path, program: Path, *arguments: str) -> None:
        command = (str(python), str(program), *arguments)
        self._command, self._errors = command, tempfile.TemporaryFile("w+")  # noqa: SIM115 - read after the process has ended
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True)

    def ask(self, question: Any) -> Any:
        """Raises :class:`PeerUnavailable`, with the end of what it said, where the program has ended."""
        assert self._process.stdin and self._process.stdout
        try:
            print(json.dumps(question), file=self._process.stdin, flush=True)
            while line := self._process.stdout.readline():
                if line.startswith("ANSWER "):  # a library may print lines of its own
                    return json.loads(line.removeprefix("ANSWER "))
        except OSError:
            pass  # it has ended, which its status tells better
        status = self._process.wait()
        self._errors.seek(0)
        raise PeerUnavailable(f"{' '.join(self._command[1:3])} ended with status {status}: {self._errors.read()[-1500:]}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()
