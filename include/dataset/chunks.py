"""A version's Parquet files, cut where the content says so: a sample more changes one file, and the others are taken as they are."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from include.dataset.cache import ImageReader, stage_key
from include.dataset.config import DatasetConfig
from include.dataset.files import digest_of, file_digest, write_json, writing_atomically
from include.dataset.fingerprints import perceptual_hashes, stacked

MEAN_ROWS, MAX_ROWS, ROWS_A_GROUP = 256, 1024, 64
CODE_VERSION = 1  #: raised when the same rows make another file

SAMPLES = pa.schema(
    [
        ("key", pa.string()),
        ("image", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("caption", pa.string()),
        ("captions", pa.list_(pa.string())),
        ("license", pa.string()),
        ("author", pa.string()),
        ("source", pa.string()),
        ("sha256", pa.string()),
        ("fingerprint", pa.binary()),
        ("perceptual_hash", pa.string()),
        ("entropy", pa.float32()),
        ("sharpness", pa.float32()),
        ("group", pa.string()),
        ("split", pa.string()),
    ]
)
#: What stays the same for the same file's name in the cache; the rest of a row follows from it.
_NAMED_BY = ("key", "sha256", "width", "height", "captions", "license", "author", "source", "group", "split")

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ChunkFile:
    """A Parquet file as the manifest lists it."""

    file: str
    rows: int
    sha256: str
    width: int  #: of every image in it
    height: int


def chunked(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Cuts after rows that their digest chooses, one in 256 by chance, so that a cut stays where it is when rows come or go elsewhere.

    Images of one chunk have one size. After Muthitacharoen et al. (2001), "A low-bandwidth network file system".
    """
    chunk: list[Row] = []
    for row in rows:
        if chunk and ((row["width"], row["height"]) != (chunk[0]["width"], chunk[0]["height"]) or len(chunk) == MAX_ROWS):
            yield chunk
            chunk = []
        chunk.append(row)
        if int(row["sha256"][-8:], 16) % MEAN_ROWS == 0:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


class ChunkWriter:
    """Makes chunks in the cache, or finds them there, and links them into a version's folder."""

    def __init__(self, root: Path, config: DatasetConfig) -> None:
        self.folder = root / ".cache" / "chunks"
        self._stages = stage_key(config)

    def write(self, rows: list[Row], target: Path, reader: ImageReader) -> ChunkFile:
        named = digest_of([CODE_VERSION, self._stages, [[row[name] for name in _NAMED_BY] for row in rows]])[:32]
        made, facts = self.folder / f"{named}.parquet", self.folder / f"{named}.json"
        if not facts.exists():
            _write_rows(rows, made, reader)
            chunk = ChunkFile(file="", rows=len(rows), sha256=file_digest(made), width=int(rows[0]["width"]), height=int(rows[0]["height"]))
            write_json(facts, asdict(chunk))
        _link(made, target)
        return ChunkFile(**{**json.loads(facts.read_text()), "file": target.name})


def _write_rows(rows: list[Row], path: Path, reader: ImageReader) -> None:
    texts = [name for name in SAMPLES.names if name not in ("image", "fingerprint")]
    compression = {name: "ZSTD" for name in texts} | {"captions.list.element": "ZSTD", "image": "NONE", "fingerprint": "ZSTD"}
    statistics = ["key", "sha256"]
    with (
        writing_atomically(path) as file,
        pq.ParquetWriter(file, SAMPLES, compression=compression, use_dictionary=["license", "author"], write_statistics=statistics) as out,
    ):
        for start in range(0, len(rows), ROWS_A_GROUP):
            part = [_whole(row, reader) for row in rows[start : start + ROWS_A_GROUP]]
            for row, found in zip(part, perceptual_hashes(stacked([row["fingerprint"] for row in part])), strict=True):
                row["perceptual_hash"] = found
            out.write_table(pa.Table.from_pylist(_only(part, SAMPLES.names), SAMPLES))


def _whole(row: Row, reader: ImageReader) -> Row:
    return {**row, "image": reader.image(row["place"]), "fingerprint": reader.fingerprint(row["place"]), "caption": row["captions"][0]}


def _only(rows: Iterable[Row], names: Sequence[str]) -> list[Row]:
    return [{name: row[name] for name in names} for row in rows]


def _link(made: Path, target: Path) -> None:
    try:
        os.link(made, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(made, target)
