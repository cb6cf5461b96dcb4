"""The feedback archive, by table and day."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from include.dataset.archive import EVENTS, RATINGS, REQUESTS
from include.lifecycle.maintenance.context import Context
from include.lifecycle.maintenance.directories import DirectoryKeeper
from include.lifecycle.maintenance.files import age_of, size_of
from include.lifecycle.maintenance.items import Item, judged

DAY = "day="  #: in front of a partition's date


class ArchiveKeeper(DirectoryKeeper):
    """``TABLE/day=2026-01-31``. A day is as old as its end, or as what came to it late."""

    kind = "archive day"

    def __init__(self, context: Context) -> None:
        super().__init__(context, context.settings.home.resolve() / "archive")

    def items(self) -> Iterator[Item]:
        for table in (EVENTS, RATINGS, REQUESTS):
            for path in sorted((self.root / table).glob(f"{DAY}*")):
                yield self.judge(path)

    def judge(self, path: Path) -> Item:
        limits, name = self.context.limits, path.relative_to(self.root).as_posix()
        needed = "a file in it is being written" if any(path.glob(".*")) else ""
        try:
            ended = datetime.strptime(path.name.removeprefix(DAY), "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=1)
        except ValueError:
            needed, ended = "its name is no day", datetime.now(UTC)
        age = max(0.0, min(time.time() - ended.timestamp(), age_of(path)))
        return judged(limits, self.kind, name, size_of(path), age, limits.archive_days, needed)
