from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from include.dataset.config import DatasetConfig
from include.dataset.shards import plan_shards, prepare_shard, unread
from include.dataset.trees import PlaceUnavailableError

Config = Callable[..., DatasetConfig]


def test_a_source_is_cut_into_shards(config: Config, tmp_path: Path) -> None:
    assert [(plan.index, plan.count) for plan in plan_shards(config(), tmp_path)] == [(0, 4), (1, 4), (2, 2)]
    assert sum(plan.count for plan in plan_shards(config(limit=5), tmp_path)) == 5


def test_a_shard_counts_what_it_kept_and_rejected(config: Config, folder: Path, tmp_path: Path) -> None:
    (folder / "1.png").write_bytes(b"broken")
    result = prepare_shard(plan_shards(config(), tmp_path)[0])
    assert (result.kept, result.rejected) == (3, {"header": 1})
    assert [row["stage"] for row in unread(Path(result.run)).values()] == ["header"]


def test_a_prepared_shard_is_not_prepared_again(config: Config, tmp_path: Path) -> None:
    plan = plan_shards(config(), tmp_path)[0]
    assert [prepare_shard(plan).reused, prepare_shard(plan).reused] == [False, True]


def test_what_is_prepared_is_not_planned_again(config: Config, folder: Path, tmp_path: Path) -> None:
    plans = plan_shards(config(), tmp_path)
    prepare_shard(plans[0])
    assert [plan.count for plan in plan_shards(config(), tmp_path)] == [4, 2]
    prepare_shard(plans[1])
    prepare_shard(plans[2])
    assert [plan.count for plan in plan_shards(config(), tmp_path)] == [0]
    (folder / "0.png").write_bytes((folder / "1.png").read_bytes() + b" ")
    assert [plan.count for plan in plan_shards(config(), tmp_path)] == [1]


@pytest.mark.parametrize(("change", "count"), [({"size": 32}, 4), ({"max_caption": 10}, 0), ({"validation": 0.5}, 0), ({"fit": "crop"}, 4)])
def test_only_what_decides_about_pixels_makes_them_anew(config: Config, tmp_path: Path, change: dict[str, object], count: int) -> None:
    for plan in plan_shards(config(), tmp_path):
        prepare_shard(plan)
    assert plan_shards(config(**change), tmp_path)[0].count == count


def test_a_file_that_was_unreadable_is_tried_again(config: Config, folder: Path, tmp_path: Path) -> None:
    (folder / "0.png").rename(folder / "elsewhere")
    (folder / "0.png").symlink_to(folder / "elsewhere")
    plan = plan_shards(config(), tmp_path)[0]
    (folder / "elsewhere").rename(folder / "gone")
    assert prepare_shard(plan).rejected == {"read": 1}
    (folder / "gone").rename(folder / "elsewhere")
    assert sum(plan.count for plan in plan_shards(config(), tmp_path)) == 7


def test_an_empty_folder_is_an_error_that_says_what_belongs_there(config: Config, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ValueError, match=r"no images found in .*nothing; it should hold images with a \.txt caption"):
        plan_shards(config(path=tmp_path / "nothing"), tmp_path)


def test_a_place_that_can_not_be_read_fails_the_shard_instead_of_its_images(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: object) -> bytes:
        raise PlaceUnavailableError("can't read s3://bucket/0.png")

    plan = plan_shards(config(), tmp_path)[0]
    with monkeypatch.context() as patch:
        patch.setattr("include.dataset.stages.reading.read_range", unavailable)
        with pytest.raises(PlaceUnavailableError):
            prepare_shard(plan)
    assert prepare_shard(plan).kept == 4
