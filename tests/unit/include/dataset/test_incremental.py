"""An image more is the work of an image: shards, comparisons and files that are there are taken as they are."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from include.dataset.chunks import chunked
from include.dataset.config import DatasetConfig
from include.dataset.loader import load_split
from include.dataset.shards import plan_shards, prepare_shard
from include.dataset.versions import publish_version
from tests.unit.include.dataset.conftest import picture, publish

Config = Callable[..., DatasetConfig]


def add(folder: Path, name: str, seed: int) -> None:
    picture(seed).save(folder / f"{name}.png")
    (folder / f"{name}.txt").write_text(name)


def test_an_added_image_gives_the_version_that_a_run_from_nothing_gives(config: Config, folder: Path, tmp_path: Path) -> None:
    publish(config(), tmp_path / "a")
    add(folder, "5b", 77)
    added = publish(config(), tmp_path / "a")
    assert added.digest == publish(config(), tmp_path / "b").digest
    assert sum(added.counts.values()) == 11


def test_a_near_copy_that_is_added_later_is_found(config: Config, folder: Path, tmp_path: Path) -> None:
    first = publish(config(size=32, validation=0), tmp_path)
    picture(3, 80, 40).save(folder / "copy.jpg", quality=80)
    (folder / "copy.txt").write_text("a copy")
    second = publish(config(size=32, validation=0), tmp_path)
    assert second.counts == first.counts
    assert second.rejected == {"duplicate: near copy of another": 1}
    grouped = publish(config(size=32, validation=0, near_duplicates="group"), tmp_path)
    assert sum(grouped.counts.values()) == 11


def test_nothing_is_taken_that_another_version_has(config: Config, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    add(other, "exact", 3)
    picture(4, 80, 40).save(other / "near.jpg", quality=80)
    (other / "near.txt").write_text("near")
    add(other, "new", 99)
    first = publish(config(size=32), tmp_path)
    second = publish(config(name="second", path=other, size=32, against=(first.version,), validation=0), tmp_path)
    assert load_split(second.manifest, "train").keys == ["new.png"]
    with pytest.raises(LookupError, match="against: there is no dataset version gone-1"):
        publish(config(against=("gone-1",)), tmp_path)


def test_a_run_that_lost_a_shard_says_so(config: Config, tmp_path: Path) -> None:
    results = [prepare_shard(plan) for plan in plan_shards(config(), tmp_path)]
    shutil.rmtree(next((tmp_path / ".cache" / "images").iterdir()))
    with pytest.raises(RuntimeError, match=r"has not been prepared: a shard of .* is missing"):
        publish_version(results, tmp_path)


def test_a_full_disk_in_a_shard_leaves_nothing_half_made(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_shards(config(), tmp_path)[0]

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space left"):
            prepare_shard(plan)
    assert [path for path in (tmp_path / ".cache" / "images").rglob("*") if path.is_file()] == []
    assert prepare_shard(plan).kept == 4


def rows(count: int) -> list[dict[str, object]]:
    digests = np.random.default_rng(0).bytes(32 * count)
    return [{"key": str(index), "sha256": digests[32 * index : 32 * index + 32].hex(), "width": 8, "height": 8} for index in range(count)]


def test_cuts_stay_where_they_are_when_a_row_comes_in_between() -> None:
    before = rows(6000)
    after = [*before[:3000], {**before[0], "key": "new", "sha256": "f" * 64}, *before[3000:]]
    old, new = ({tuple(row["key"] for row in chunk) for chunk in chunked(content)} for content in (before, after))
    assert len(old) > 5
    assert len(new - old) <= 2
    assert sum(len(chunk) for chunk in new) == 6001


def test_a_chunk_has_images_of_one_size() -> None:
    content = [{**row, "width": 8 + index // 50} for index, row in enumerate(rows(200))]
    assert all(len({row["width"] for row in chunk}) == 1 for chunk in chunked(content))
