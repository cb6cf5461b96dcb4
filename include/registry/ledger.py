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
    not_before: float | None = Field(None, description="The look before that one; the move happened between the two.")
    by: str = Field(UNKNOWN, description="Who moved it; unknown for moves in the MLflow UI, which does not say.")
    why: str = ""
    model: str
    alias: str
    from_version: str | None = Field(None, alias="from")
    to_version: str | None = Field(None, alias="to")


class AliasLedger:
    """A JSONL file; a torn last line, left by a crash, is skipped when read and closed before the next append."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, move: AliasMove) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(move.model_dump(by_alias=True), separators=(",", ":")) + "\n"
        with self.path.open("ab+") as file:
            file.write(b"\n" * self._torn() + line.encode())
            file.flush()
            os.fsync(file.fileno())

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

    def _torn(self) -> bool:
        if not self.path.exists() or self.path.stat().st_size == 0:
            return False
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
