"""Writing small files of the state directory."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_if_changed(path: Path, text: str, mode: int = 0o644) -> bool:
    """Write ``text`` atomically unless the file holds it already; returns whether it was written."""
    if path.is_file() and path.read_text() == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    temporary.replace(path)
    return True


def secret(path: Path, nbytes: int = 32) -> str:
    """A random secret that is made once and kept in ``path``, readable by its owner only."""
    if not path.is_file():
        write_if_changed(path, secrets.token_urlsafe(nbytes), mode=0o600)
    return path.read_text()
