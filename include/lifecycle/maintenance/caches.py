"""What is kept to save work and is made or fetched again where it is missing."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from include.lifecycle.compression import HOME as COMPRESSED
from include.lifecycle.maintenance.ancestry import JOB_RUNS
from include.lifecycle.maintenance.context import Context
from include.lifecycle.maintenance.directories import DirectoryKeeper
from include.lifecycle.maintenance.files import age_of, half_removed, remove_tree, size_of
from include.lifecycle.maintenance.items import Item, StillNeededError, judged
from include.lifecycle.training import ENCODED
from include.registry.uses import uses_of


class ModelCacheKeeper(DirectoryKeeper):
    """Fetched versions, by digest, that no worker on this machine holds."""

    kind = "cached model"

    def __init__(self, context: Context) -> None:
        super().__init__(context, context.settings.home.resolve() / "cache" / "models")

    def items(self) -> Iterator[Item]:
        for path in sorted(self.root.glob("*")):
            if path.is_dir():
                yield self.judge(path)

    def remove(self, item: Item) -> None:
        with uses_of(self.root).unused(item.name) as unused:
            if not unused:
                raise StillNeededError("a process of this machine uses it")
            remove_tree(self.root / item.name, self.root)

    def judge(self, path: Path) -> Item:
        limits = self.context.limits
        # The time of the directory is that of its last use; its files keep the times of their download.
        used = max(0.0, time.time() - path.stat().st_mtime)
        limit = limits.leftover_days if path.name.startswith(".") else limits.cache_days
        return judged(limits, self.kind, path.name, size_of(path), used, limit, self.context.needed().digests.get(path.name, ""))


class WorkKeeper(DirectoryKeeper):
    """Folders of what jobs made and would make again."""

    folder: ClassVar[str]  #: in the platform's home

    def __init__(self, context: Context) -> None:
        super().__init__(context, context.settings.home.resolve() / self.folder)

    def items(self) -> Iterator[Item]:
        for path in sorted(self.root.glob("[!.]*")):
            yield self.judge(path)

    def judge(self, path: Path) -> Item:
        limits = self.context.limits
        running = any(why == JOB_RUNS for why in self.context.needed().directories.values())
        needed = "a job is running and may read it" if running else ""
        return judged(limits, self.kind, path.name, size_of(path), age_of(path), limits.cache_days, needed)


class EncodedKeeper(WorkKeeper):
    """Packs of encoded captions and images, by encoder, and files fetched from buckets."""

    kind = "encoded cache"
    folder = ENCODED


class VariantKeeper(WorkKeeper):
    """Compressed variants and what was measured of them, by the version's digest."""

    kind = "compressed variants"
    folder = COMPRESSED


class HalfRemovedKeeper(DirectoryKeeper):
    """What an earlier removal was cut short at. Nobody can see it any more, so it goes at any age."""

    kind = "half removed"

    def __init__(self, context: Context) -> None:
        super().__init__(context, context.settings.home.resolve())

    def items(self) -> Iterator[Item]:
        for folder in ("datasets", "training", "archive", "cache/models", ENCODED, COMPRESSED):
            for path in sorted(half_removed(self.root / folder)):
                yield self.judge(path)

    def remove(self, item: Item) -> None:
        shutil.rmtree(self.root / item.name)

    def judge(self, path: Path) -> Item:
        name = path.relative_to(self.root).as_posix()
        return Item(kind=self.kind, name=name, bytes=size_of(path), age_s=age_of(path), goes=True, why="an earlier removal was cut short")
