from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from models.training.samples import load_buckets, load_split, read_manifest
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


def test_a_split_of_several_sizes_is_read_by_size(tmp_path: Path) -> None:
    manifest = write_tiny_dataset(tmp_path / "data", {"train": 8}, [(16, 16), (24, 16), (16, 16)])
    found = load_buckets(manifest, "train")
    assert [part.images.shape for part in found] == [(5, 16, 16, 3), (3, 16, 24, 3)]
    assert [len(part.captions) for part in found] == [5, 3]
    with pytest.raises(ValueError, match=r"several sizes \(16x16, 24x16\)"):
        load_split(manifest, "train")
