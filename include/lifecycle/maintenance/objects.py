"""The object store's leftovers and, where a limit is given, its images."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import ClassVar
from urllib.parse import unquote, urlsplit

from include.dataset.trees import Entry, find_entry, list_tree
from include.lifecycle.maintenance.context import Context
from include.lifecycle.maintenance.items import Item, Keeper, judged
from include.storage import open_store


class ObjectKeeper(Keeper):
    """Objects below one folder of the store, by their keys."""

    folder: ClassVar[str]
    leftover: ClassVar[bool] = True  #: normally goes by itself, so that it gets no days of grace

    def __init__(self, context: Context) -> None:
        self.context = context
        self.store = open_store(context.settings)
        self.place = _place(context.settings.store)

    @property
    def limit_days(self) -> float | None:
        return self.context.limits.leftover_days

    def items(self) -> Iterator[Item]:
        try:
            found = list_tree(f"{self.place}/{self.folder}")
        except FileNotFoundError:  # nothing was ever stored there
            return
        yield from (self._judged(f"{self.folder}/{entry.key}", entry) for entry in found)

    def item(self, name: str) -> Item | None:
        entry = find_entry(self.place, name)
        return self._judged(name, entry) if entry else None

    def remove(self, item: Item) -> None:
        self.store.delete(item.name)

    def _judged(self, key: str, entry: Entry) -> Item:
        age = max(0.0, time.time() - entry.modified)
        limits = self.context.limits.model_copy(update={"grace_days": 0.0}) if self.leftover else self.context.limits
        return judged(limits, self.kind, key, entry.size, age, self.limit_days)


def _place(store: str) -> str:
    address = urlsplit(store)
    return unquote(address.path) if address.scheme == "file" else store.rstrip("/")


class PreviewKeeper(ObjectKeeper):
    kind, folder = "preview", "previews"


class ParkedKeeper(ObjectKeeper):
    """A request that comes for its parked render later is rendered from its beginning."""

    kind, folder = "parked render", "parked"


class ResultEntryKeeper(ObjectKeeper):
    """What names the images of repeated requests; it counts for ``result_cache_s`` and is never read after."""

    kind, folder = "result entry", "results"

    @property
    def limit_days(self) -> float | None:
        leftover = self.context.limits.leftover_days
        return None if leftover is None else max(leftover, self.context.settings.result_cache_s / 86_400)


class ImageKeeper(ObjectKeeper):
    kind, folder, leftover = "image", "images", False

    @property
    def limit_days(self) -> float | None:
        return self.context.limits.image_days
