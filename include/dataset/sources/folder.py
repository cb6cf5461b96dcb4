"""Images anywhere below a folder or S3 prefix, with what is said about them in sidecars, tables or webdataset tars."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from functools import reduce

from include.dataset.sources import sidecars
from include.dataset.sources.base import Source, SourceItem
from include.dataset.sources.sidecars import TABLES, Annotation
from include.dataset.sources.tars import IMAGE_SUFFIXES, members_of
from include.dataset.trees import Entry, list_tree, read_range


class FolderSource(Source):
    """Captions come from a ``.txt`` (a caption a line) or ``.json`` of the image's name, from a ``metadata.jsonl``, ``.csv`` or
    ``.parquet`` of any folder as Hugging Face's image folders have them, and from the members of webdataset ``.tar`` files."""

    def __init__(self, place: str, *, license: str = "", author: str = "") -> None:
        self.place, self.license, self.author = str(place), license, author

    def items(self) -> Iterator[SourceItem]:
        entries = list_tree(self.place)
        files = {entry.key: entry for entry in entries}
        told = _tables(entries)
        found: list[SourceItem] = []
        for entry in entries:
            suffix = _suffix(entry.key)
            if suffix in IMAGE_SUFFIXES:
                found.append(self._item(entry, _beside(entry, files, told.pop(entry.key, None))))
            elif suffix == ".tar":
                found += members_of(entry, self.license, self.author)
        found += [self._missing(key, annotation) for key, annotation in told.items()]
        yield from sorted(found, key=lambda item: item.key)

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


def _suffix(key: str) -> str:
    return posixpath.splitext(key)[1].lower()


def _beside(entry: Entry, files: Mapping[str, Entry], told: Annotation | None) -> Annotation:
    """What the sidecars say, then what a table has told."""
    stem = posixpath.splitext(entry.key)[0]
    text, fields = files.get(f"{stem}.txt"), files.get(f"{stem}.json")
    said = [sidecars.of_text(read_range(text.path))] if text else []
    said += [sidecars.of_json(read_range(fields.path), fields.key)] if fields else []
    said += [told] if told else []
    return reduce(Annotation.over, said) if said else Annotation()


def _tables(entries: list[Entry]) -> dict[str, Annotation]:
    """By the image's key."""
    rows = []
    for entry in entries:
        folder, name = posixpath.split(entry.key)
        if name in TABLES:
            rows += [
                (posixpath.normpath(posixpath.join(folder, file)), annotation)
                for file, annotation in sidecars.read_table(read_range(entry.path), entry.key)
            ]
    return sidecars.merged(rows)
