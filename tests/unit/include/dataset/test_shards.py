from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from include.dataset.config import DatasetConfig
from include.dataset.shards import plan_shards, prepare_shard, rejects_of, samples_of

Config = Callable[..., DatasetConfig]


def test_a_source_is_cut_into_shards(config: Config, tmp_path: Path) -> None:
    assert [(plan.index, plan.count) for plan in plan_shards(config(), tmp_path)] == [(0, 4), (1, 4), (2, 2)]
    assert sum(plan.count for plan in plan_shards(config(limit=5), tmp_path)) == 5


def test_a_shard_holds_samples_and_rejects(config: Config, folder: Path, tmp_path: Path) -> None:
    (folder / "1.png").write_bytes(b"broken")
    (folder / "2.txt").unlink()
    result = prepare_shard(plan_shards(config(), tmp_path)[0])
    assert [row["key"] for row in samples_of(result)] == ["0.png", "3.png"]
    assert [(row["key"], row["stage"]) for row in rejects_of(result)] == [("1.png", "decode"), ("2.png", "caption")]
    assert (result.kept, result.rejected) == (2, {"decode": 1, "caption": 1})


def test_a_prepared_shard_is_not_prepared_again(config: Config, tmp_path: Path) -> None:
    plan = plan_shards(config(), tmp_path)[0]
    first = prepare_shard(plan)
    written = Path(first.samples).stat().st_mtime_ns
    again = prepare_shard(plan_shards(config(), tmp_path)[0])
    assert (first.reused, again.reused) == (False, True)
    assert Path(again.samples).stat().st_mtime_ns == written


def test_a_changed_file_makes_new_shards(config: Config, folder: Path, tmp_path: Path) -> None:
    before = plan_shards(config(), tmp_path)[0]
    (folder / "0.png").write_bytes((folder / "1.png").read_bytes() + b" ")
    assert plan_shards(config(), tmp_path)[0].path != before.path


def test_an_empty_folder_is_an_error_that_says_what_belongs_there(config: Config, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ValueError, match=r"no images found in .*nothing; it should hold images with a \.txt caption"):
        plan_shards(config(path=tmp_path / "nothing"), tmp_path)
