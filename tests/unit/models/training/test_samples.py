from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from models.training.samples import batch_indices, bucket_at, load_buckets, load_split, read_manifest
from tests.support.tiny_dataset import write_tiny_dataset


def test_a_split_has_pixels_captions_and_keys(manifest: Path) -> None:
    train, validation = load_split(manifest, "train"), load_split(manifest, "validation")
    assert len(train) + len(validation) == 24
    assert train.images.shape == (len(train), 16, 16, 3)
    assert train.captions[0][1].endswith("box")
    assert not set(train.keys) & set(validation.keys)


def test_without_leaves_out_what_any_caption_matches(manifest: Path) -> None:
    train = load_split(manifest, "train")
    left = train.without("^red box$")
    assert 0 < len(left) < len(train)
    assert all("red" not in captions[0] for captions in left.captions)
    assert train.without("") is train


def test_a_changed_shard_is_refused(manifest: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(manifest.parent, tmp_path / "copy")
    shard = copy / read_manifest(manifest)["files"]["train"][0]["file"]
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="digest differs"):
        load_split(copy / "manifest.json", "train")


def test_unknown_splits_and_other_files_are_refused(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="split: 'dev'"):
        load_split(manifest, "dev")
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match="not a dataset manifest"):
        load_split(tmp_path / "manifest.json", "train")


def test_every_epoch_visits_each_sample_once_in_another_order() -> None:
    visited = np.concatenate([batch_indices(10, 4, 0, step) for step in range(5)])
    assert sorted(visited[:10]) == sorted(visited[10:]) == list(range(10))
    assert visited[:10].tolist() != visited[10:].tolist()
    assert batch_indices(10, 4, 1, 0).tolist() != visited[:4].tolist()


def test_a_split_of_several_sizes_is_read_by_size(tmp_path: Path) -> None:
    manifest = write_tiny_dataset(tmp_path / "data", {"train": 8}, [(16, 16), (24, 16), (16, 16)])
    found = load_buckets(manifest, "train")
    assert [part.images.shape for part in found] == [(5, 16, 16, 3), (3, 16, 24, 3)]
    assert [len(part.captions) for part in found] == [5, 3]
    with pytest.raises(ValueError, match=r"several sizes \(16x16, 24x16\)"):
        load_split(manifest, "train")


def test_buckets_take_turns_and_each_goes_through_its_own_samples() -> None:
    counts, batch_size = [10, 3], 4
    drawn = [bucket_at(counts, batch_size, 7, step) for step in range(8)]
    assert [bucket for bucket, _ in drawn].count(0) == 6
    for bucket in (0, 1):
        turns = [turn for chosen, turn in drawn if chosen == bucket]
        assert turns == list(range(len(turns)))
    assert drawn[5] == bucket_at(counts, batch_size, 7, 5)


def test_one_bucket_is_drawn_from_at_every_step() -> None:
    assert [bucket_at([10], 4, 0, step) for step in range(7)] == [(0, step) for step in range(7)]


def test_a_batch_larger_than_the_data_repeats_it() -> None:
    assert np.bincount(batch_indices(3, 7, 0, 2)).sum() == 7
