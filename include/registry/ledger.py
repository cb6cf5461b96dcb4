"""The alias ledger: an append-only file of every move that was seen, because MLflow keeps no history of aliases."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

log = logging.getLogger(__name__)

UNKNOWN = "unknown"


class AliasMove(BaseModel):
    """One line of the ledger."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    at: float = Field(description="When it was seen, seconds since 1970.")
    moved_at: float | None = Field(None, description="When it was made, as its mover says; None where nobody signed it.")
    not_before: float | None = Field(None, description="An unsigned move was made after this: the look or the signed move before it,")
    not_after: float | None = Field(None, description="and before this: the signed move after it; None: before it was seen.")
    by: str = Field(UNKNOWN, description="Who moved it; unknown for moves in the MLflow UI, which does not say.")
    why: str = ""
    note: str = Field("", description="What can't be known of it.")
    signature: str | None = Field(None, description="Id of its signature in MLflow; each is recorded once.")
    model: str
    alias: str
    from_version: str | None = Field(None, alias="from")
    to_version: str | None = Field(None, alias="to")


class AliasLedger:
    """A JSONL file; a torn last line, left by a crash, is skipped when read and closed before the next append.

    Beside it a file whose modification time is that of the last look.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._looked = path.with_suffix(".looked")

    def append(self, move: AliasMove) -> None:
        """On disk when it returns."""
        if not self.path.exists():
            self._create()
        line = json.dumps(move.model_dump(by_alias=True), separators=(",", ":")) + "\n"
        with self.path.open("ab+") as file:
            file.write(b"\n" * self._torn() + line.encode())
            file.flush()
            os.fsync(file.fileno())

    def looked(self, now: float) -> None:
        """Remember that all moves before ``now`` are recorded."""
        self._looked.parent.mkdir(parents=True, exist_ok=True)
        self._looked.touch()
        os.utime(self._looked, (now, now))

    def last_look(self) -> float | None:
        """Seconds since 1970; None where nobody ever looked."""
        try:
            return self._looked.stat().st_mtime
        except FileNotFoundError:
            return max((move.at for move in self.moves()), default=None)

    def moves(self) -> Iterator[AliasMove]:
        """From oldest to newest."""
        if not self.path.exists():
            return
        for number, line in enumerate(self.path.read_bytes().splitlines(), 1):
            try:
                yield AliasMove.model_validate_json(line)
            except ValidationError:
                log.warning("%s:%d is not a ledger line; skipped", self.path, number)

    def current(self) -> dict[tuple[str, str], AliasMove]:
        """The last move of each (model, alias)."""
        return {(move.model, move.alias): move for move in self.moves()}

    def signatures(self) -> set[str]:
        """Ids of the signatures that are recorded."""
        return {move.signature for move in self.moves() if move.signature is not None}

    def _create(self) -> None:
        """With its name on disk, which a file's own fsync does not promise."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _torn(self) -> bool:
        if not self.path.exists() or self.path.stat().st_size == 0:
            return False
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
