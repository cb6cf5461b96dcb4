"""The stream's promises: one order, from anywhere, in bounded memory, of checked files."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import weakref
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.training.samples import load_split
from models.training.samples.files import FileCache, read_bytes
from models.training.samples.order import BatchPlan, Block
from models.training.samples.stream import AHEAD, ImageBatches, RowGroups, SampleStream
from tests.support.s3 import BUCKET, S3Server
from tests.support.tiny_dataset import write_tiny_dataset

SMALL = {"window": 2, "seed": 5}


def keys(stream: SampleStream, epoch: int = 0, start: int = 0) -> list[str]:
    return [sample.key for sample in stream.epoch(epoch, start)]


def test_an_epoch_has_every_sample_once_in_an_order_of_its_own(mixed: str) -> None:
    stream = SampleStream(mixed, **SMALL)
    first, second = keys(stream, 0), keys(stream, 1)
    assert sorted(first) == sorted(second) == [f"{index:03d}.png" for index in range(150)]
    assert first != second != sorted(second)
    assert keys(SampleStream(mixed, window=2, seed=6)) != first


def test_the_order_does_not_depend_on_the_number_of_workers(mixed: str) -> None:
    assert len({tuple(keys(SampleStream(mixed, workers=workers, **SMALL))) for workers in (1, 2, 5)}) == 1


@pytest.mark.parametrize("start", [0, 1, 63, 64, 100, 149, 150])
def test_a_stream_goes_on_from_any_sample(mixed: str, start: int) -> None:
    stream = SampleStream(mixed, **SMALL)
    assert keys(stream, 3, start) == keys(stream, 3)[start:]


def test_what_comes_before_is_not_read(mixed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    stream = SampleStream(mixed, window=1, seed=5)
    original = stream._read_window

    def counted(window: list[Block], epoch: int, number: int) -> list[tuple[int, dict[str, object]]]:
        read.append(number)
        return original(window, epoch, number)

    monkeypatch.setattr(stream, "_read_window", counted)
    last = stream.order(0)[-1]
    assert [sample.index for sample in stream.epoch(0, 149)] == [last]
    assert len(read) == 1


def test_samples_are_the_split_s(mixed: str) -> None:
    stream = SampleStream(mixed, **SMALL)
    sample = next(stream.epoch(0))
    assert sample.pixels.dtype == np.uint8
    assert sample.captions == [f"picture {int(sample.key[:3])}"]
    assert len(stream) == 150


def test_an_interrupted_stream_ends_its_threads(mixed: str) -> None:
    stream = SampleStream(mixed, **SMALL)
    samples = stream.epoch(0)
    assert len(list(islice(samples, 3))) == 3
    samples.close()
    assert len(keys(stream)) == 150


def test_a_damaged_file_is_not_trained_on(mixed: str, tmp_path: Path) -> None:
    copy = shutil.copytree(Path(mixed).parent, tmp_path / "copy")
    file = next(copy.glob("train-*.parquet"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="its digest differs"):
        keys(SampleStream(copy / "manifest.json"))


def test_a_file_that_is_laid_out_otherwise_is_refused(tmp_path: Path) -> None:
    manifest = write_tiny_dataset(tmp_path / "data", {"train": 70})
    content = json.loads(manifest.read_text())
    (entry,) = content["files"]["train"]
    file = manifest.parent / entry["file"]
    pq.write_table(pq.read_table(file), file, row_group_size=70)
    entry["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="a row group of 70 rows where 64 were expected; publish it anew"):
        keys(SampleStream(manifest))


def test_an_unknown_split_and_a_foreign_file_are_refused(mixed: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="split: 'all' is not one of"):
        SampleStream(mixed, "all")
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match="is not a dataset manifest"):
        SampleStream(tmp_path / "manifest.json")


def test_the_stream_reads_the_split_that_is_loaded_whole(manifest: Path) -> None:
    whole = load_split(manifest, "train")
    streamed = {sample.index: sample for sample in SampleStream(manifest).epoch(0)}
    assert [streamed[index].key for index in range(len(whole))] == whole.keys
    assert all(np.array_equal(streamed[index].pixels, whole.images[index]) for index in range(len(whole)))


class Counting(RowGroups):
    """Keeps count of what it was asked for."""

    def __init__(self, manifest: str) -> None:
        super().__init__(manifest)
        self.asked: list[Block] = []

    def read(self, block: Block, columns: Sequence[str]) -> pa.Table:
        self.asked.append(block)
        return super().read(block, columns)


def steps_of(groups: RowGroups, window: int = 2, **how: Any) -> tuple[BatchPlan, ImageBatches]:
    plan = BatchPlan(groups.blocks, np.ones(len(groups), bool), 8, 5, window)
    return plan, ImageBatches(groups, plan, **how)


def test_the_images_of_a_step_are_those_of_the_plan_whatever_was_asked_for_before(mixed: str) -> None:
    pixels = {sample.index: sample.pixels for sample in SampleStream(mixed).epoch(0)}
    for workers in (1, 3):
        plan, batches = steps_of(RowGroups(mixed), workers=workers)
        for step in (0, 1, 2, 30, 7, 8, 0):
            assert np.array_equal(batches.at(step), np.stack([pixels[index] for index in plan.at(step).tolist()]))


def test_processes_share_a_step(mixed: str) -> None:
    whole = steps_of(RowGroups(mixed))[1].at(3)
    shares = [steps_of(RowGroups(mixed), share=slice(rank, None, 2))[1].at(3) for rank in range(2)]
    assert all(np.array_equal(share, whole[rank::2]) for rank, share in enumerate(shares))


def test_of_a_split_larger_than_the_bound_only_the_bound_is_held(tmp_path: Path) -> None:
    """Thirty row groups with windows of one: three are held encoded, and each is read once an epoch, or little more, nevertheless."""
    groups = Counting(str(write_tiny_dataset(tmp_path / "data", {"train": 30 * 64}, [(16, 16), (24, 16)])))
    plan, batches = steps_of(groups, window=1)
    alive = WatchedImages(batches)
    for step in range(len(plan) // plan.batch_size):
        batches.at(step)
        assert len(batches._images._columns) <= 3
    assert len({block.first for block in groups.asked}) == 30
    assert len(groups.asked) <= 33
    assert alive.most <= (AHEAD + 2 + batches._decoders._max_workers) * plan.batch_size


class WatchedImages:
    """The most decoded images that were alive at a time."""

    def __init__(self, batches: ImageBatches) -> None:
        self.most, self._alive, self._lock = 0, 0, threading.Lock()
        original = batches._batch

        def batch(step: int) -> np.ndarray:
            made = original(step)
            with self._lock:
                self._alive += len(made)
                self.most = max(self.most, self._alive)
            weakref.finalize(made, self._gone, len(made))
            return made

        batches._batch = batch  # type: ignore[method-assign]

    def _gone(self, count: int) -> None:
        self._alive -= count


def test_a_step_of_a_damaged_file_raises_instead_of_waiting(mixed: str, tmp_path: Path) -> None:
    copy = shutil.copytree(Path(mixed).parent, tmp_path / "copy")
    for file in copy.glob("train-*.parquet"):
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="its digest differs"):
        steps_of(RowGroups(copy / "manifest.json"))[1].at(0)


def test_from_a_bucket_a_step_is_the_same_and_its_files_are_fetched_once(mixed: str, tmp_path: Path, bucket: S3Server) -> None:
    place = bucket.upload(Path(mixed).parent, "steps")
    fetched: list[str] = []

    def read(path: str) -> bytes:
        fetched.append(path)
        return read_bytes(path)

    there = RowGroups(f"{place}/manifest.json", files=FileCache(tmp_path / "cache", read=read))
    plan, batches = steps_of(there)
    _, local = steps_of(RowGroups(mixed))
    for step in range(2 * len(plan) // plan.batch_size):
        assert np.array_equal(batches.at(step), local.at(step))
    assert sorted(fetched) == sorted({f"{place}/manifest.json", *(f"{place}/{path.name}" for path in Path(mixed).parent.glob("train-*"))})


@pytest.mark.usefixtures("bucket")
def test_an_object_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"s3://{BUCKET}/nowhere/manifest.json"):
        RowGroups(f"s3://{BUCKET}/nowhere/manifest.json", files=FileCache(tmp_path))
