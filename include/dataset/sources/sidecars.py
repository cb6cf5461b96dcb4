"""What may be said about an image beside its pixels, in the layouts people bring: sidecar files and tables."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

#: Names under which captions are found, in the order of preference.
CAPTION_FIELDS = ("captions", "caption", "text", "prompt", "description", "title")
LICENSE_FIELDS = ("license", "licence", "rights")
AUTHOR_FIELDS = ("author", "artist", "creator")
SOURCE_FIELDS = ("source", "url", "source_url")
FILE_FIELDS = ("file_name", "filename", "image", "path")
TABLES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")


@dataclass(frozen=True, kw_only=True)
class Annotation:
    captions: tuple[str, ...] = field(default=())
    license: str = ""
    author: str = ""
    source: str = ""

    @classmethod
    def of(cls, plain: Sequence[Any]) -> Annotation:
        """Of what :meth:`plain` gave."""
        captions, license, author, source = plain
        return cls(captions=tuple(captions), license=license, author=author, source=source)

    def plain(self) -> list[Any]:
        """As JSON holds it."""
        return [list(self.captions), self.license, self.author, self.source]

    def over(self, other: Annotation) -> Annotation:
        """This one's captions first, then the other's; of the rest what this one says, else what the other says."""
        captions = tuple(dict.fromkeys((*self.captions, *other.captions)))
        said = {name: getattr(self, name) or getattr(other, name) for name in ("license", "author", "source")}
        return Annotation(captions=captions, **said)


def of_text(data: bytes) -> Annotation:
    """Each line is a caption."""
    lines = data.decode("utf-8-sig", errors="replace").splitlines()
    return Annotation(captions=tuple(line.strip() for line in lines if line.strip()))


def of_json(data: bytes, name: str) -> Annotation:
    """An object with any of the fields above, a list of captions, or a caption. Raises :class:`ValueError` that names the file."""
    try:
        content = json.loads(data)
    except ValueError as error:
        raise ValueError(f"{name} is not JSON: {error}") from error
    if isinstance(content, dict):
        return of_fields(content)
    return Annotation(captions=_texts(content))


def of_fields(content: Mapping[str, Any]) -> Annotation:
    captions = tuple(dict.fromkeys(text for name in CAPTION_FIELDS for text in _texts(content.get(name))))
    return Annotation(
        captions=captions,
        license=_first(content, LICENSE_FIELDS),
        author=_first(content, AUTHOR_FIELDS),
        source=_first(content, SOURCE_FIELDS),
    )


def read_table(data: bytes, name: str) -> Iterator[tuple[str, Annotation]]:
    """The rows of a table of annotations, each with the file it is about, relative to the table's folder.

    Raises :class:`ValueError` that names the table, the row and what it lacks.
    """
    for number, row in enumerate(_rows(data, name), 1):
        file = _first(row, FILE_FIELDS)
        if not file:
            raise ValueError(f"{name}, row {number}: names no file; give one of {', '.join(FILE_FIELDS)}")
        yield file, of_fields(row)


def merged(rows: Iterable[tuple[str, Annotation]]) -> dict[str, Annotation]:
    """By file. A file that several rows name has the captions of all of them."""
    found: dict[str, Annotation] = {}
    for file, annotation in rows:
        found[file] = found[file].over(annotation) if file in found else annotation
    return found


def _rows(data: bytes, name: str) -> Iterator[dict[str, Any]]:
    try:
        if name.endswith(".parquet"):
            yield from pq.read_table(io.BytesIO(data)).to_pylist()
        elif name.endswith(".csv"):
            yield from csv.DictReader(io.StringIO(data.decode("utf-8-sig")))
        else:
            yield from _json_lines(data, name)
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise ValueError(f"{name} can't be read as a table: {error}") from error


def _json_lines(data: bytes, name: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(data.decode("utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{name}, line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"{name}, line {number} is not an object")
        yield row


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,) if value.strip() else ()
    if isinstance(value, (list, tuple)):
        return tuple(text for text in value if isinstance(text, str) and text.strip())
    return ()


def _first(content: Mapping[str, Any], names: Iterable[str]) -> str:
    return next((str(content[name]).strip() for name in names if content.get(name) not in (None, "")), "")
