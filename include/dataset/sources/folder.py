"""Images anywhere below a folder or S3 prefix, with what is said about them in sidecars, tables or webdataset tars."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from functools import reduce
from operator import attrgetter
from typing import Any

from include.dataset.sources import sidecars
from include.dataset.sources.base import Source, SourceItem
from include.dataset.sources.memory import ReadMemory
from include.dataset.sources.sidecars import TABLES, Annotation
from include.dataset.sources.tars import IMAGE_SUFFIXES, items_of, members_of
from include.dataset.trees import Entry, list_tree, read_range


class FolderSource(Source):
    """Captions come from a ``.txt`` (a caption a line) or ``.json`` of the image's name, from a ``metadata.jsonl``, ``.csv`` or
    ``.parquet`` of any folder as Hugging Face's image folders have them, and from the members of webdataset ``.tar`` files."""

    def __init__(self, place: str, *, license: str = "", author: str = "", memory: ReadMemory | None = None) -> None:
        self.place, self.license, self.author = str(place), license, author
        self.memory = memory or ReadMemory()

    def items(self) -> Iterator[SourceItem]:
        entries = list_tree(self.place)
        files = {entry.key: entry for entry in entries}
        told = _tables(entries)
        found: list[SourceItem] = []
        for entry in entries:
            stem, suffix = posixpath.splitext(entry.key)
            if (suffix := suffix.lower()) in IMAGE_SUFFIXES:
                found.append(self._item(entry, self._said(stem, files, told.pop(entry.key, None))))
            elif suffix == ".tar":
                found += items_of(entry, self.memory.recall(entry, members_of), self.license, self.author)
        found += [self._missing(key, annotation) for key, annotation in told.items()]
        self.memory.save()
        yield from sorted(found, key=attrgetter("key"))

    def _said(self, stem: str, files: Mapping[str, Entry], told: Annotation | None) -> Annotation:
        """What the sidecars say, then what a table has told."""
        said = [told] if told else []
        for suffix, read in ((".json", _json), (".txt", _text)):
            if sidecar := files.get(stem + suffix):
                said.insert(0, Annotation.of(self.memory.recall(sidecar, read)))
        return reduce(Annotation.over, said) if said else Annotation()

    def _item(self, entry: Entry, annotation: Annotation) -> SourceItem:
        return SourceItem(
            key=entry.key,
            path=entry.path,
            captions=annotation.captions,
            license=annotation.license or self.license,
            author=annotation.author or self.author,
            source=annotation.source or entry.key,
            stamp=entry.stamp,
        )

    def _missing(self, key: str, annotation: Annotation) -> SourceItem:
        return SourceItem(
            key=key,
            path="",
            captions=annotation.captions,
            license="",
            author="",
            source=key,
            problem="a table names it, but it is not there",
        )


def _text(entry: Entry) -> list[Any]:
    return sidecars.of_text(read_range(entry.path)).plain()


def _json(entry: Entry) -> list[Any]:
    return sidecars.of_json(read_range(entry.path), entry.key).plain()


def _tables(entries: list[Entry]) -> dict[str, Annotation]:
    """By the image's key."""
    rows = []
    for entry in entries:
        folder, _, name = entry.key.rpartition("/")
        if name in TABLES:
            rows += [
                (posixpath.normpath(posixpath.join(folder, file)), annotation)
                for file, annotation in sidecars.read_table(read_range(entry.path), entry.key)
            ]
    return sidecars.merged(rows)
