"""Reading a split that need not fit into memory: shuffled, in the same order for the same seed however many read, from any sample on."""

from __future__ import annotations

import io
import json
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from include.dataset.file_cache import FileCache
from include.dataset.shuffling import Block, epoch_windows, window_order
from include.dataset.trees import read_range
from models.training.samples import SPLITS

WINDOW = 16  #: blocks shuffled together, about a thousand samples
TASK = 16  #: samples decoded by a thread at a time
_COLUMNS = ["key", "image", "captions"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One decoded sample."""

    index: int  #: in the split
    key: str
    pixels: np.ndarray  #: (height, width, 3) uint8
    captions: list[str]  #: the main one first


class SampleStream:
    """Samples of a split in the order that the seed and the epoch decide.

    Threads read and decode ahead; Pillow and Arrow let go of the interpreter's lock while they work. At most two windows of encoded and a
    few dozen decoded samples are in memory.

    :param manifest: path or s3://bucket/.../manifest.json of a dataset version
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
        content = _manifest(str(manifest))
        if split not in SPLITS:
            raise ValueError(f"split: {split!r} is not one of {', '.join(SPLITS)}")
        self.digest: str = content["digest"]
        self.seed, self.workers, self.window = seed, max(1, workers), window
        self._entries: list[dict[str, Any]] = content["files"].get(split, [])
        self._place = str(manifest).rsplit("/", 1)[0] if "/" in str(manifest) else "."
        self._cache = cache or FileCache(None)
        self._open: OrderedDict[int, pq.ParquetFile] = OrderedDict()
        self._blocks = list(_blocks(self._entries, content["size"]))
        self.size = sum(block.rows for block in self._blocks)

    def __len__(self) -> int:
        return self.size

    def order(self, epoch: int) -> np.ndarray:
        """Indices in the split, in the order of the epoch."""
        windows = enumerate(epoch_windows(self._blocks, self.seed, epoch, self.window))
        parts = [window_order(window, self.seed, epoch, number) for number, window in windows]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

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

    def batches(self, epoch: int, batch_size: int, start: int = 0) -> Iterator[list[Sample]]:
        """Batches of images of one size, from the ``start``-th batch on; the last of each size may be short."""
        queues: dict[tuple[int, ...], list[Sample]] = {}
        sizes = np.concatenate([np.full(block.rows, number) for number, block in enumerate(self._blocks)])
        done, skipped = self._consumed(self.order(epoch), sizes, batch_size, start)
        for sample in self.epoch(epoch, done):
            if sample.index in skipped:
                continue
            queue = queues.setdefault(sample.pixels.shape, [])
            queue.append(sample)
            if len(queue) == batch_size:
                yield queue
                queues[sample.pixels.shape] = []
        yield from (queue for _, queue in sorted(queues.items()) if queue)

    def _consumed(self, order: np.ndarray, block_of: np.ndarray, batch_size: int, batches: int) -> tuple[int, frozenset[int]]:
        """From which sample on to read so that so many batches are behind, and which of those from there on were in them."""
        waiting: dict[tuple[int, int], list[int]] = {}
        positions: list[int] = []
        for position, index in enumerate(order.tolist()):
            if len(positions) >= batches * batch_size:
                break
            queue = waiting.setdefault(self._blocks[block_of[index]].size, [])
            queue.append(position)
            if len(queue) == batch_size:
                positions += queue
                queue.clear()
        left = [position for queue in waiting.values() for position in queue]
        first = min(left, default=len(positions))
        return first, frozenset(int(order[position]) for position in positions if position >= first)

    def _windows(self, reader: ThreadPoolExecutor, epoch: int, start: int) -> Iterator[list[tuple[int, dict[str, Any]]]]:
        """Encoded rows in order, one window at a time, while the next is read."""
        windows = epoch_windows(self._blocks, self.seed, epoch, self.window)
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
            table = self._file(block.file).read_row_group(block.group, columns=_COLUMNS, use_threads=False)
            rows.update(enumerate(table.to_pylist(), block.first))
        return [(index, rows[index]) for index in window_order(window, self.seed, epoch, number).tolist()]

    def _file(self, number: int) -> pq.ParquetFile:
        if number not in self._open:
            entry = self._entries[number]
            self._open[number] = pq.ParquetFile(self._cache.local(f"{self._place}/{entry['file']}", entry["sha256"]))
            if len(self._open) > 64:
                self._open.popitem(last=False)[1].close()
        return self._open[number]


def _blocks(entries: Sequence[dict[str, Any]], size: int, rows_a_group: int = 64) -> Iterator[Block]:
    """Known from the manifest alone: publishing writes row groups of 64 rows."""
    first = 0
    for number, entry in enumerate(entries):
        for group, start in enumerate(range(0, entry["rows"], rows_a_group)):
            rows = min(rows_a_group, entry["rows"] - start)
            yield Block(file=number, group=group, first=first, rows=rows, size=(entry.get("width", size), entry.get("height", size)))
            first += rows


def _decoded(rows: Sequence[tuple[int, dict[str, Any]]]) -> list[Sample]:
    found = []
    for index, row in rows:
        image = Image.open(io.BytesIO(row["image"]))
        pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
        found.append(Sample(index, row["key"], pixels, row["captions"]))
    return found


def _manifest(path: str) -> dict[str, Any]:
    content = json.loads(read_range(path))
    if not isinstance(content, dict) or content.get("kind") != "atelier-dataset":
        raise ValueError(f"{path} is not a dataset manifest")
    return content
