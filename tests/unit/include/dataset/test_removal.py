"""An author is taken out of the next version, for good, and the versions before stay as they were."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from include.dataset.authors import is_by
from include.dataset.config import DatasetConfig
from include.dataset.loader import load_split
from include.dataset.removal import newest_of, remove_author, versions_with
from tests.unit.include.dataset.conftest import publish

Config = Callable[..., DatasetConfig]


@pytest.fixture
def credited(folder: Path) -> Path:
    rows = [{"file_name": f"{index}.png", "author": "Ann Lee, Studio" if index < 3 else "Bob"} for index in range(10)]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize(
    ("credit", "name", "expected"),
    [("Ann Lee", "ann lee", True), ("Ann Lee, Studio", "Ann Lee", True), ("Ann Lee, Studio", "Ann", False), ("Bob", "", False)],
)
def test_a_credit_may_name_several(credit: str, name: str, expected: bool) -> None:
    assert is_by(credit, name) is expected


def test_the_next_version_is_without_the_author(credited: Path, config: Config, tmp_path: Path) -> None:
    before = publish(config(validation=0.3), tmp_path)
    (affected,) = versions_with(tmp_path, "Ann Lee")
    assert (affected.version, affected.samples) == (before.version, 3)
    after = remove_author(tmp_path, newest_of([affected], tmp_path)["pictures"], "Ann Lee")
    assert sum(after.counts.values()) == 7
    keys = {key for split in ("train", "validation") for key in load_split(after.manifest, split).keys}
    assert keys == {f"{index}.png" for index in range(3, 10)}
    assert len(load_split(before.manifest, "train")) == before.counts["train"]
    assert json.loads(Path(after.manifest).read_text())["parent"] == before.version
    quarantine = pq.read_table(Path(after.manifest).with_name("quarantine.parquet")).to_pylist()
    assert {row["stage"] for row in quarantine} == {"author"}


def test_no_later_version_has_them_and_it_is_the_same_one(credited: Path, config: Config, tmp_path: Path) -> None:
    before = publish(config(validation=0.3), tmp_path)
    after = remove_author(tmp_path, before.version, "Ann Lee")
    again = publish(config(validation=0.3), tmp_path)
    assert again.digest == after.digest


def test_nothing_left_is_an_error(config: Config, tmp_path: Path) -> None:
    version = publish(config(author="Ann"), tmp_path)
    with pytest.raises(ValueError, match=r"nothing of .* is left without Ann"):
        remove_author(tmp_path, version.version, "Ann")
