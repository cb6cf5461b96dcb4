"""One trainer a directory: a lock that ends with its holder, and a token for where locks can't be relied on."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

LOCK, OWNER = "trainer.lock", "trainer.json"


class RunTakenError(RuntimeError):
    """Another trainer has the directory."""


class RunLock:
    """Held while a run is trained. The operating system gives the lock back when the process ends, however it ends.

    A network file system may drop the lock of a machine that it lost sight of, while the trainer there goes on. So each holder writes a
    token of its own, and asks by :meth:`check` before it replaces anything whether that still is the one.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._token = secrets.token_hex(16)
        self._file: int | None = None

    def __enter__(self) -> Self:
        """Raises :class:`RunTakenError` that names the holder."""
        self._directory.mkdir(parents=True, exist_ok=True)
        file = os.open(self._directory / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise RunTakenError(f"output: {self._directory} is being trained by {self._holder()}") from None
        self._file = file
        partial = self._directory / f"{OWNER}.partial"
        partial.write_text(json.dumps({"token": self._token, "pid": os.getpid(), "host": platform.node()}))
        partial.replace(self._directory / OWNER)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            os.close(self._file)

    def check(self) -> None:
        """Raises :class:`RunTakenError` once another trainer has taken the directory over."""
        if self._owner().get("token") != self._token:
            raise RunTakenError(f"output: {self._directory} was taken over by {self._holder()}; nothing more is written")

    def _owner(self) -> dict[str, object]:
        try:
            return dict(json.loads((self._directory / OWNER).read_text()))
        except (FileNotFoundError, ValueError):
            return {}

    def _holder(self) -> str:
        owner = self._owner()
        return f"process {owner.get('pid', 'unknown')} on {owner.get('host', 'an unknown machine')}"
