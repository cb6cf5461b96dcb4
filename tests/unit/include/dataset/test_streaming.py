"""The stream's promises: one order, from anywhere, in bounded memory, of checked files."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from include.dataset.config import DatasetConfig
from include.dataset.file_cache import FileCache
from include.dataset.loader import SampleStream, load_split
from include.dataset.shuffling import Block, window_order
from tests.unit.include.dataset.conftest import picture, publish

SMALL = {"window": 2, "seed": 5}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> str:
    """150 samples in four sizes: three row groups and more."""
    root = tmp_path_factory.mktemp("stream")
    (root / "images").mkdir()
    for index in range(150):
        width, height = ((32, 32), (64, 32), (32, 64), (48, 32))[index % 4]
        picture(index, width, height).save(root / "images" / f"{index:03d}.png")
        (root / "images" / f"{index:03d}.txt").write_text(f"picture {index}")
    config = DatasetConfig(name="stream", source="folder", path=root / "images", size=64, fit="bucket", validation=0.0)
    return publish(config, root).manifest


def keys(stream: SampleStream, epoch: int = 0, start: int = 0) -> list[str]:
    return [sample.key for sample in stream.epoch(epoch, start)]


def test_an_epoch_has_every_sample_once_in_an_order_of_its_own(manifest: str) -> None:
    stream = SampleStream(manifest, **SMALL)
    first, second = keys(stream, 0), keys(stream, 1)
    assert sorted(first) == sorted(second) == [f"{index:03d}.png" for index in range(150)]
    assert first != second != sorted(second)
    assert keys(SampleStream(manifest, window=2, seed=6)) != first


def test_the_order_does_not_depend_on_the_number_of_workers(manifest: str) -> None:
    assert len({tuple(keys(SampleStream(manifest, workers=workers, **SMALL))) for workers in (1, 2, 5)}) == 1


@pytest.mark.parametrize("start", [0, 1, 63, 64, 100, 149, 150])
def test_a_stream_goes_on_from_any_sample(manifest: str, start: int) -> None:
    stream = SampleStream(manifest, **SMALL)
    assert keys(stream, 3, start) == keys(stream, 3)[start:]


def test_what_comes_before_is_not_read(manifest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    stream = SampleStream(manifest, window=1, seed=5)
    original = stream._read_window

    def counted(window: list[Block], epoch: int, number: int) -> list[tuple[int, dict[str, object]]]:
        read.append(number)
        return original(window, epoch, number)

    monkeypatch.setattr(stream, "_read_window", counted)
    last = stream.order(0)[-1]
    assert [sample.index for sample in stream.epoch(0, 149)] == [last]
    assert len(read) == 1


def test_samples_are_the_split_s(manifest: str) -> None:
    stream = SampleStream(manifest, **SMALL)
    sample = next(stream.epoch(0))
    assert sample.pixels.dtype == np.uint8
    assert sample.captions == [f"picture {int(sample.key[:3])}"]
    assert len(stream) == 150


def test_batches_have_one_size_and_together_every_sample(manifest: str) -> None:
    batches = list(SampleStream(manifest, **SMALL).batches(0, 8))
    assert all(len({sample.pixels.shape for sample in batch}) == 1 for batch in batches)
    assert sorted(sample.key for batch in batches for sample in batch) == [f"{index:03d}.png" for index in range(150)]
    assert sum(len(batch) < 8 for batch in batches) <= 4


@pytest.mark.parametrize("start", [0, 1, 3, 7, 12])
def test_batches_go_on_from_any_batch(manifest: str, start: int) -> None:
    stream = SampleStream(manifest, **SMALL)
    whole = [[sample.index for sample in batch] for batch in stream.batches(2, 8)]
    assert [[sample.index for sample in batch] for batch in stream.batches(2, 8, start)] == whole[start:]


def test_an_interrupted_stream_ends_its_threads(manifest: str) -> None:
    stream = SampleStream(manifest, **SMALL)
    samples = stream.epoch(0)
    assert len(list(islice(samples, 3))) == 3
    samples.close()
    assert len(keys(stream)) == 150


def test_a_damaged_file_is_not_trained_on(config: Callable[..., DatasetConfig], tmp_path: Path) -> None:
    version = publish(config(validation=0), tmp_path)
    file = next(Path(version.manifest).parent.glob("train-*.parquet"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.unlink()
    file.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="its digest differs"):
        keys(SampleStream(version.manifest))


def test_an_unknown_split_and_a_foreign_file_are_refused(manifest: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="split: 'all' is not one of"):
        SampleStream(manifest, "all")
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match="is not a dataset manifest"):
        SampleStream(tmp_path / "manifest.json")


def test_the_stream_reads_the_split_that_training_loads(config: Callable[..., DatasetConfig], tmp_path: Path) -> None:
    version = publish(config(validation=0.3), tmp_path)
    whole = load_split(version.manifest, "train")
    streamed = {sample.index: sample for sample in SampleStream(version.manifest).epoch(0)}
    assert [streamed[index].key for index in range(len(whole))] == whole.keys
    assert all(np.array_equal(streamed[index].pixels, whole.images[index]) for index in range(len(whole)))


def test_a_full_cache_forgets_what_was_used_longest_ago(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib
    import os

    contents = {f"s3://bucket/{name}": name.encode() * 10 for name in "abc"}
    fetched: list[str] = []

    def fetch(path: str) -> bytes:
        fetched.append(path)
        return contents[path]

    monkeypatch.setattr("include.dataset.file_cache.read_range", fetch)
    cache = FileCache(tmp_path, limit=20)
    for step, name in enumerate(("a", "b", "a", "c", "a", "b")):
        path = f"s3://bucket/{name}"
        local = cache.local(path, hashlib.sha256(contents[path]).hexdigest())
        assert local.read_bytes() == contents[path]
        os.utime(local, (step, step))
    assert [path[-1] for path in fetched] == ["a", "b", "c", "b"]
    with pytest.raises(ValueError, match="digest differs"):
        cache.local("s3://bucket/c", "0" * 64)
    with pytest.raises(ValueError, match="give a folder"):
        FileCache(None).local("s3://bucket/c", "0" * 64)


def test_a_window_is_shuffled_by_its_number() -> None:
    window = [Block(file=0, group=0, first=10, rows=5, size=(8, 8)), Block(file=0, group=3, first=0, rows=5, size=(8, 8))]
    orders = [window_order(window, 1, 0, number).tolist() for number in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]
