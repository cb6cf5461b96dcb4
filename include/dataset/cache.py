"""What has been made of images before, found by the content it was made from, so that an image is only worked on once.

A part is two Parquet files: the images that came through a shard's stages, and the ones that did not. Writing the first completes it.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import kornia_rs
import numpy as np
import PIL
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import resvg_py

from include.dataset.config import IMAGE_FIELDS, DatasetConfig
from include.dataset.files import digest_of, rows_of, writing_atomically
from include.dataset.fingerprints import stacked
from include.dataset.records import read_records, rejects_path
from include.dataset.sources import SourceItem
from include.dataset.stages.batches import REJECTS

CODE_VERSION = 3  #: raised when the stages make something else of the same image

IMAGES = pa.schema(
    [
        ("work", pa.string()),
        ("format", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("fingerprint", pa.binary()),
        ("sha256", pa.string()),
        ("entropy", pa.float32()),
        ("sharpness", pa.float32()),
        ("score", pa.float32()),
        ("image", pa.large_binary()),
    ]
)
ROWS_A_GROUP = 64


def stage_key(config: DatasetConfig) -> str:
    """Names everything that decides what becomes of an image's bytes, the libraries that decode and encode them included."""
    libraries = {"pillow": PIL.__version__, "kornia": kornia_rs.__version__, "resvg": str(getattr(resvg_py, "__version__", ""))}
    return digest_of([CODE_VERSION, libraries, config.model_dump(mode="json", include=set(IMAGE_FIELDS))])[:16]


def work_of(item: SourceItem) -> str:
    """Names an image's bytes by where they are and the file's stamp, without reading them."""
    return hashlib.sha256(f"{item.path}\0{item.offset}\0{item.stamp}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Place:
    """Where the cache has an image."""

    part: Path
    row: int


class StageCache:
    """The parts made by one configuration of the stages, under a directory that all datasets share."""

    def __init__(self, root: Path, config: DatasetConfig) -> None:
        self.folder = root / ".cache" / "images" / stage_key(config)

    def part(self, works: Iterable[str]) -> Path:
        """The file for a shard of these images; it exists once the shard has been prepared."""
        return self.folder / f"{hashlib.sha256(''.join(works).encode()).hexdigest()[:24]}.parquet"

    def done(self) -> set[str]:
        """Every image that is here, or was rejected for what it holds."""
        return set(read_records(self.folder)["work"].to_numpy().tolist())

    def records(self, wanted: Collection[str]) -> dict[str, dict[str, Any]]:
        """By work, what :data:`RECORDS` says of an image; ``place`` is for :class:`ImageReader`."""
        known = read_records(self.folder)
        parts = {name: self.folder / name for name in known["part"].unique().to_pylist()}
        rows = rows_of(known.filter(pc.is_in(known["work"], pa.array(wanted, pa.string()))))
        return {row["work"]: row | {"place": Place(parts[row["part"]], row["row"])} for row in rows}


def write_part(part: Path, batches: Iterator[tuple[pa.Table, pa.Table]]) -> tuple[int, list[dict[str, Any]]]:
    """Writes what the stages give, batch by batch, so that no more than one is in memory. Returns the number kept, and the rejects."""
    rejects: list[dict[str, Any]] = []
    count = 0
    with writing_atomically(part) as file:
        with pq.ParquetWriter(file, IMAGES, compression={"image": "NONE"}, use_dictionary=False, write_statistics=False) as writer:
            for kept, rejected in batches:
                writer.write_table(kept.select(IMAGES.names).cast(IMAGES), row_group_size=ROWS_A_GROUP)
                count += kept.num_rows
                rejects += rejected.to_pylist()
        # A file that can't be read today may be readable tomorrow; what a file holds stays as it is.
        final = [row for row in rejects if row["stage"] != "read"]
        with writing_atomically(rejects_path(part)) as other:
            pq.write_table(pa.Table.from_pylist(final, REJECTS), other)
    return count, rejects


class ImageReader:
    """Images and fingerprints by place. Keeps the last few row groups, since neighbours are asked for together."""

    def __init__(self, groups: int = 4) -> None:
        self._limit = groups
        self._groups: OrderedDict[tuple[Path, int, str], pa.ChunkedArray] = OrderedDict()
        self._files: dict[Path, tuple[pq.ParquetFile, list[int]]] = {}

    def image(self, place: Place) -> bytes:
        return self._cell(place, "image")

    def fingerprint(self, place: Place) -> bytes:
        return self._cell(place, "fingerprint")

    def pictures(self, places: Sequence[Place]) -> np.ndarray:
        """(N, 32, 32, 3) uint8, the fingerprints."""
        found = [b""] * len(places)
        for index in sorted(range(len(places)), key=lambda index: (places[index].part, places[index].row)):
            found[index] = self.fingerprint(places[index])
        return stacked(found)

    def _cell(self, place: Place, column: str) -> bytes:
        file, starts = self._open(place.part)
        group = bisect_right(starts, place.row) - 1
        cells = self._groups.pop((place.part, group, column), None)
        if cells is None:
            cells = file.read_row_group(group, columns=[column], use_threads=False)[column]
        self._groups[place.part, group, column] = cells
        if len(self._groups) > self._limit:
            self._groups.popitem(last=False)
        data: bytes = cells[place.row - starts[group]].as_py()
        return data

    def _open(self, part: Path) -> tuple[pq.ParquetFile, list[int]]:
        if part not in self._files:
            file = pq.ParquetFile(part)
            starts, row = [], 0
            for index in range(file.num_row_groups):
                starts.append(row)
                row += file.metadata.row_group(index).num_rows
            self._files[part] = (file, starts)
        return self._files[part]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for file, _ in self._files.values():
            file.close()
        self._files.clear()
        self._groups.clear()
