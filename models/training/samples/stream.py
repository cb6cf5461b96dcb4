"""Reading a split that need not fit into memory: by row groups, sample after sample from any one on, or the images of a step."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.training.samples.files import FileCache
from models.training.samples.order import WINDOW, BatchPlan, Block, epoch_indices, epoch_windows, window_order
from models.training.samples.split import SPLITS, decode, read_manifest

TASK = 16  #: samples decoded by a thread at a time
ROWS_A_GROUP = 64  #: as publishing writes them
OPEN_FILES = 64
AHEAD = 2  #: steps whose images are read and decoded before they are asked for
_COLUMNS = ["key", "image", "captions"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One decoded sample."""

    index: int  #: in the split
    key: str
    pixels: np.ndarray  #: (height, width, 3) uint8
    captions: list[str]  #: the main one first


class RowGroups:
    """The row groups of a split. Safe to use from several threads.

    :param manifest: path or s3://bucket/.../manifest.json of a dataset version
    :param files: where its files are found; a bucket needs one with a folder
    """

    def __init__(self, manifest: Path | str, split: str = "train", files: FileCache | None = None) -> None:
        self._files = files or FileCache(None)
        content = read_manifest(manifest, self._files.read)
        if split not in SPLITS:
            raise ValueError(f"split: {split!r} is not one of {', '.join(SPLITS)}")
        self.digest: str = content["digest"]
        self.name = f"the split {split} of {manifest}"
        self._entries: list[dict[str, Any]] = content["files"].get(split, [])
        self._place = str(manifest).rsplit("/", 1)[0] if "/" in str(manifest) else "."
        self._open: OrderedDict[int, pq.ParquetFile] = OrderedDict()
        self._lock = threading.Lock()
        self.blocks = list(_blocks(self._entries, content["size"]))

    def __len__(self) -> int:
        """Samples."""
        return sum(block.rows for block in self.blocks)

    def read(self, block: Block, columns: Sequence[str]) -> pa.Table:
        """Raises :class:`ValueError` where the file isn't the manifest's, :class:`OSError` where it isn't there."""
        with self._lock:
            table = self._file(block).read_row_group(block.group, columns=list(columns), use_threads=False)
        if len(table) != block.rows:
            raise ValueError(f"{self.fetch(block)} has a row group of {len(table)} rows where {block.rows} were expected; publish it anew")
        return table

    def fetch(self, block: Block) -> Path:
        """Has the block's file on this machine, and checked, before it is read. Raises as :meth:`read` does."""
        entry = self._entries[block.file]
        return self._files.local(f"{self._place}/{entry['file']}", entry["sha256"])

    def _file(self, block: Block) -> pq.ParquetFile:
        if block.file not in self._open:
            self._open[block.file] = pq.ParquetFile(self.fetch(block))
            if len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)[1].close()
        return self._open[block.file]


def _blocks(entries: Sequence[dict[str, Any]], size: int) -> Iterator[Block]:
    """Known from the manifest alone."""
    first = 0
    for number, entry in enumerate(entries):
        for group, start in enumerate(range(0, entry["rows"], ROWS_A_GROUP)):
            rows = min(ROWS_A_GROUP, entry["rows"] - start)
            yield Block(file=number, group=group, first=first, rows=rows, size=(entry.get("width", size), entry.get("height", size)))
            first += rows


class SampleStream:
    """Samples of a split in the order that the seed and the epoch decide.

    Threads read and decode ahead; Pillow and Arrow let go of the interpreter's lock while they work. At most two windows of encoded and a
    few dozen decoded samples are in memory.

    :param workers: threads that decode; the order doesn't depend on it
    :param window: blocks of 64 rows that are shuffled together
    :param cache: where files of a bucket are kept; a bucket needs one
    """

    def __init__(
        self,
        manifest: Path | str,
        split: str = "train",
        *,
        seed: int = 0,
        workers: int = 2,
        window: int = WINDOW,
        cache: FileCache | None = None,
    ) -> None:
        self._groups = RowGroups(manifest, split, cache)
        self.digest = self._groups.digest
        self.seed, self.workers, self.window = seed, max(1, workers), window

    def __len__(self) -> int:
        return len(self._groups)

    def order(self, epoch: int) -> np.ndarray:
        """Indices in the split, in the order of the epoch."""
        return epoch_indices(self._groups.blocks, self.seed, epoch, self.window)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Sample]:
        """The epoch's samples from the ``start``-th on; what comes before is neither read nor decoded."""
        with ThreadPoolExecutor(self.workers) as decoders, ThreadPoolExecutor(1) as reader:
            pending: deque[Future[list[Sample]]] = deque()
            for rows in self._windows(reader, epoch, start):
                for first in range(0, len(rows), TASK):
                    pending.append(decoders.submit(_decoded, rows[first : first + TASK]))
                    if len(pending) > 2 * self.workers:
                        yield from pending.popleft().result()
            yield from chain.from_iterable(future.result() for future in pending)

    def _windows(self, reader: ThreadPoolExecutor, epoch: int, start: int) -> Iterator[list[tuple[int, dict[str, Any]]]]:
        """Encoded rows in order, one window at a time, while the next is read."""
        windows = epoch_windows(self._groups.blocks, self.seed, epoch, self.window)
        counts = np.cumsum([sum(block.rows for block in window) for window in windows])
        first = int(np.searchsorted(counts, start, side="right"))
        skip = start - (int(counts[first - 1]) if first else 0)
        ahead: deque[Future[list[tuple[int, dict[str, Any]]]]] = deque()
        for number in range(first, len(windows)):
            ahead.append(reader.submit(self._read_window, windows[number], epoch, number))
            if len(ahead) > 1:
                yield ahead.popleft().result()[skip:]
                skip = 0
        while ahead:
            yield ahead.popleft().result()[skip:]
            skip = 0

    def _read_window(self, window: Sequence[Block], epoch: int, number: int) -> list[tuple[int, dict[str, Any]]]:
        rows: dict[int, dict[str, Any]] = {}
        for block in window:
            rows.update(enumerate(self._groups.read(block, _COLUMNS).to_pylist(), block.first))
        return [(index, rows[index]) for index in window_order(window, self.seed, epoch, number).tolist()]


class ImageReader:
    """Images by their index, with the row groups that were used last in memory, still encoded. Safe to use from several threads.

    :param held: row groups at most
    """

    def __init__(self, groups: RowGroups, held: int) -> None:
        self._groups, self._held = groups, held
        self._starts = np.array([block.first for block in groups.blocks])
        self._columns: OrderedDict[int, pa.ChunkedArray] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, indices: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """Decoded, (height, width, 3) uint8 each."""
        return [decode(data) for data in self.encoded(indices)]

    def encoded(self, indices: Sequence[int] | np.ndarray) -> list[bytes]:
        numbers = self._numbers(indices)
        with self._lock:
            found = [self._column(number)[int(index - self._starts[number])] for number, index in zip(numbers, indices, strict=True)]
        return [value.as_py() for value in found]

    def fetch(self, indices: Sequence[int] | np.ndarray) -> None:
        """Has the files of these images on this machine."""
        for number in dict.fromkeys(self._numbers(indices)):
            self._groups.fetch(self._groups.blocks[number])

    def _numbers(self, indices: Sequence[int] | np.ndarray) -> list[int]:
        return [int(number) for number in np.searchsorted(self._starts, indices, side="right") - 1]

    def _column(self, number: int) -> pa.ChunkedArray:
        if number not in self._columns:
            self._columns[number] = self._groups.read(self._groups.blocks[number], ["image"]).column("image")
            if len(self._columns) > self._held:
                self._columns.popitem(last=False)
        self._columns.move_to_end(number)
        return self._columns[number]


class ImageBatches:
    """The images of each step of a plan. Threads read and decode those of the next steps meanwhile; any step may be asked for.

    Three windows of encoded images and a few batches of decoded ones are in memory at most. Files come a window ahead.

    :param workers: threads that read and decode; what they read doesn't depend on it
    :param share: which images of a step, where several processes divide it among them
    """

    def __init__(self, groups: RowGroups, plan: BatchPlan, workers: int = 2, share: slice = slice(None)) -> None:
        self._plan, self._share = plan, share
        self._images = ImageReader(groups, 3 * plan.window)
        self._decoders = ThreadPoolExecutor(max(1, workers), "images")
        self._fetcher = ThreadPoolExecutor(1, "files")
        self._window_steps = -(-plan.window * ROWS_A_GROUP // plan.batch_size)
        self._pending: dict[int, Future[np.ndarray]] = {}

    def at(self, step: int) -> np.ndarray:
        """(images, height, width, 3) uint8. Raises as :meth:`RowGroups.read` does."""
        wanted = range(step, step + 1 + AHEAD)
        for old in [kept for kept in self._pending if kept not in wanted]:
            self._pending.pop(old).cancel()
        for one in wanted:
            if one not in self._pending:
                self._pending[one] = self._decoders.submit(self._batch, one)
                self._fetcher.submit(self._fetch, one + self._window_steps)
        return self._pending[step].result()

    def _batch(self, step: int) -> np.ndarray:
        return np.stack(self._images.read(self._plan.at(step)[self._share]))

    def _fetch(self, step: int) -> None:
        self._images.fetch(self._plan.at(step)[self._share])


def image_digests(images: ImageReader, indices: np.ndarray) -> list[str]:
    """SHA-256 of the stored bytes of each image, read in this order."""
    return [hashlib.sha256(images.encoded([index])[0]).hexdigest() for index in indices.tolist()]


def _decoded(rows: Sequence[tuple[int, dict[str, Any]]]) -> list[Sample]:
    return [Sample(index, row["key"], decode(row["image"]), row["captions"]) for index, row in rows]
