"""Records of a cache are those of its parts, whatever has been merged and whatever has become of a part since."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from include.dataset import records
from include.dataset.cache import ImageReader, StageCache
from include.dataset.config import DatasetConfig
from include.dataset.files import rows_of
from include.dataset.near_state import name_of
from include.dataset.records import MERGED, read_records
from include.dataset.shards import plan_shards, prepare_shard

Config = Callable[..., DatasetConfig]


@pytest.fixture
def cache(config: Config, folder: Path, tmp_path: Path) -> StageCache:
    """Of ten images in parts of four, of which one is no image."""
    (folder / "3.png").write_bytes(b"no image")
    for plan in plan_shards(config(), tmp_path):
        prepare_shard(plan)
    return StageCache(tmp_path, config())


def rows(cache: StageCache) -> list[dict[str, Any]]:
    return sorted(rows_of(read_records(cache.folder)), key=lambda row: row["work"])


def test_they_say_what_the_parts_say(cache: StageCache) -> None:
    found = cache.records([row["work"] for row in rows(cache)])
    assert sorted(row["stage"] for row in found.values()) == [""] * 9 + ["header"]
    with ImageReader() as reader:
        for row in (row for row in found.values() if not row["stage"]):
            assert row["picture"] == name_of(reader.fingerprint(row["place"]))
            assert reader.image(row["place"]).startswith(b"\x89PNG")
            (there,) = pq.read_table(row["place"].part, columns=["sha256", "width", "score"]).slice(row["row"], 1).to_pylist()
            assert there.items() <= row.items()
    assert cache.records([]) == {}


def test_what_is_merged_is_not_read_again(cache: StageCache, monkeypatch: pytest.MonkeyPatch) -> None:
    first = rows(cache)
    assert (cache.folder / MERGED).exists()
    monkeypatch.setattr(records.pq, "read_table", lambda path, **_: pytest.fail(f"{path} is read again"))
    assert rows(cache) == first


def test_a_part_that_is_gone_or_changed_counts_as_it_is(cache: StageCache) -> None:
    kept = Counter(row["part"] for row in rows(cache) if not row["stage"])
    gone, cut, whole = sorted(kept)
    (cache.folder / gone).unlink()
    pq.write_table(pq.read_table(cache.folder / cut).slice(1), cache.folder / cut)
    left = Counter(row["part"] for row in rows(cache) if not row["stage"])
    assert left == {cut: kept[cut] - 1, whole: kept[whole]}


@pytest.mark.parametrize("content", [b"", b"ARROW1\0\0 and no more"])
def test_a_broken_merged_file_is_made_anew(cache: StageCache, content: bytes) -> None:
    first = rows(cache)
    (cache.folder / MERGED).write_bytes(content)
    assert rows(cache) == first
    assert (cache.folder / MERGED).read_bytes() != content
