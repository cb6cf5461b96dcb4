"""The checkpoints of a run: safetensors and JSON with its digest, each written whole or not at all, the newest few kept."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

TENSORS, FACTS = "state.safetensors", "state.json"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    path: Path
    facts: dict[str, Any]
    tensors: dict[str, Tensor]


class CheckpointError(RuntimeError):
    """A checkpoint is damaged, or could not be written; those before it stay."""


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """``DIRECTORY/step-000020/`` and so on, of which the last ``keep`` stay."""

    directory: Path
    keep: int = 2
    may_write: Callable[[], None] = lambda: None  #: raises where another trainer has taken over

    def save(self, step: int, tensors: dict[str, Tensor], facts: dict[str, Any]) -> Path:
        """Raises :class:`CheckpointError` where it can't be written, as on a full disk."""
        target = self.directory / f"step-{step:06d}"
        write_checkpoint(target, tensors, {**facts, "step": step}, self.may_write)
        for old in self._paths()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)
        return target

    def newest(self, say: Callable[[str], None] = print) -> Checkpoint | None:
        """The newest that is whole; of damaged ones a line is said. None where there is none."""
        for path in reversed(self._paths()):
            try:
                return read_checkpoint(path)
            except CheckpointError as error:
                say(f"{error}; going back to the one before")
        return None

    def _paths(self) -> list[Path]:
        found = {path.name.removeprefix("step-"): path for path in self.directory.glob("step-*")}
        return [found[number] for number in sorted(filter(str.isdigit, found), key=int)]


def write_checkpoint(target: Path, tensors: dict[str, Tensor], facts: dict[str, Any], may_write: Callable[[], None] = lambda: None) -> None:
    """Replaces the directory ``target`` at once. Raises :class:`CheckpointError`, and leaves what is there as it was."""
    work, old = (target.with_name(f".{target.name}.{suffix}") for suffix in ("new", "old"))
    try:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        save_file(tensors, work / TENSORS)
        _sync(work / TENSORS)
        (work / FACTS).write_text(json.dumps({**facts, "sha256": _digest(work / TENSORS)}))
        _sync(work / FACTS)
        may_write()
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            os.rename(target, old)
        os.rename(work, target)
        _sync(target.parent)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(work, ignore_errors=True)
        raise CheckpointError(f"{target} could not be written: {error}") from error


def read_checkpoint(path: Path) -> Checkpoint:
    """Raises :class:`CheckpointError` for one that is not as it was written."""
    try:
        facts = json.loads((path / FACTS).read_text())
        if _digest(path / TENSORS) != facts["sha256"]:
            raise CheckpointError(f"checkpoint {path} is damaged: its digest differs")
        return Checkpoint(path=path, facts=facts, tensors=load_file(path / TENSORS))
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged: {error}") from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
