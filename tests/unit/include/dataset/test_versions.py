from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from include.dataset.authors import exclude_author
from include.dataset.config import DatasetConfig
from include.dataset.loader import load_split, read_manifest
from include.dataset.shards import plan_shards, prepare_shard
from include.dataset.splits import split_of
from include.dataset.versions import publish_version
from tests.unit.include.dataset.conftest import picture, png_header, publish

Config = Callable[..., DatasetConfig]


def test_a_version_holds_every_sample_once_with_its_origin(config: Config, tmp_path: Path) -> None:
    version = publish(config(validation=0.3, license="CC0", author="A"), tmp_path)
    manifest = read_manifest(version.manifest)
    assert sum(version.counts.values()) == 10
    rows = [
        row
        for files in manifest["files"].values()
        for file in files
        for row in pq.read_table(Path(version.manifest).parent / file["file"]).to_pylist()
    ]
    assert sorted(row["key"] for row in rows) == [f"{index}.png" for index in range(10)]
    assert {(row["license"], row["author"]) for row in rows} == {("CC0", "A")}
    assert manifest["licenses"] == {"CC0": 10}


def test_the_same_input_has_the_same_digest_wherever_it_is_prepared(config: Config, tmp_path: Path) -> None:
    first, second = publish(config(), tmp_path / "a"), publish(config(shard_size=3), tmp_path / "b")
    assert first.digest == second.digest
    assert first.version == Path(first.manifest).parent.name == f"pictures-{first.digest[:12]}"


def test_another_caption_is_another_version_and_the_old_one_stays(config: Config, folder: Path, tmp_path: Path) -> None:
    first = publish(config(), tmp_path)
    (folder / "0.txt").write_text("another caption")
    second = publish(config(), tmp_path)
    assert first.digest != second.digest
    assert len(load_split(first.manifest, "train")) == first.counts["train"]


def test_equal_pixels_are_kept_once_with_all_captions(config: Config, folder: Path, tmp_path: Path) -> None:
    Image.open(folder / "0.png").save(folder / "copy.bmp")
    (folder / "copy.txt").write_text("the same again")
    version = publish(config(validation=0), tmp_path)
    train = load_split(version.manifest, "train")
    assert len(train) == 10
    assert train.captions[train.keys.index("0.png")] == ["picture 0", "the same again"]
    assert version.rejected == {"duplicate: same pixels as another": 1}


def test_rejects_are_in_quarantine_and_in_the_report(config: Config, folder: Path, tmp_path: Path) -> None:
    (folder / "4.png").write_bytes(b"")
    version = publish(config(), tmp_path)
    assert version.rejected == {"read: the file is empty": 1}
    quarantine = pq.read_table(Path(version.manifest).parent / "quarantine.parquet").to_pylist()
    assert [(row["key"], row["stage"], row["reason"]) for row in quarantine] == [("4.png", "read", "the file is empty")]
    report = Path(version.report).read_text()
    assert "read: the file is empty" in report
    assert "data:image/jpeg;base64," in report


def test_whatever_a_file_falls_out_by_it_is_a_sample_or_in_quarantine_with_stage_and_reason(
    config: Config, folder: Path, tmp_path: Path
) -> None:
    (folder / "metadata.jsonl").write_text(
        "".join(
            json.dumps(row) + "\n"
            for row in (
                {"file_name": "gone.png"},
                {"file_name": "5.png", "author": "Ann"},
                {"file_name": "6.png", "license": "all rights reserved"},
            )
        )
    )
    (folder / "1.png").write_bytes(b"")
    (folder / "2.png").write_bytes(b"no image")
    (folder / "3.png").write_bytes(png_header(40, 40))
    (folder / "4.txt").unlink()
    Image.new("RGB", (16, 16), "red").save(folder / "7.png")
    shutil.copy(folder / "8.png", folder / "8b.png")
    picture(9, 80, 40).save(folder / "9b.jpg", quality=80)
    for copy in ("8b", "9b"):
        (folder / f"{copy}.txt").write_text("a copy")
    exclude_author(tmp_path, "Ann")
    version = publish(config(size=32, license="CC0", licenses=("CC0",), min_entropy=1, validation=0), tmp_path)
    quarantine = pq.read_table(Path(version.manifest).with_name("quarantine.parquet")).to_pylist()
    assert {row["key"]: row["stage"] for row in quarantine} == {
        "gone.png": "list",
        "1.png": "read",
        "2.png": "header",
        "3.png": "decode",
        "4.png": "caption",
        "5.png": "author",
        "6.png": "license",
        "7.png": "filter",
        "8b.png": "duplicate",
        "9b.jpg": "duplicate",
    }
    assert all(row["reason"] and row["path"] for row in quarantine)
    assert load_split(version.manifest, "train").keys == ["0.png", "8.png", "9.png"]


def test_captions_can_not_break_out_of_the_report(config: Config, tmp_path: Path) -> None:
    version = publish(config(author="<script>alert(1)</script>"), tmp_path)
    assert "<script>" not in Path(version.report).read_text()


def test_a_crash_while_publishing_leaves_no_partial_version(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = [prepare_shard(plan) for plan in plan_shards(config(), tmp_path)]

    def crash(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", crash)
        with pytest.raises(OSError, match="No space left"):
            publish_version(results, tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name != "images" and not path.name.startswith(".")] == []
    assert not list(tmp_path.glob(".pictures*"))
    assert publish_version(results, tmp_path) == publish_version(results, tmp_path)


def test_a_version_of_nothing_is_an_error_with_the_reasons(config: Config, folder: Path, tmp_path: Path) -> None:
    for caption in folder.glob("*.txt"):
        caption.unlink()
    with pytest.raises(ValueError, match=r"no sample was usable.*has no caption"):
        publish(config(), tmp_path)


def test_a_split_depends_on_the_content_alone() -> None:
    config = DatasetConfig(validation=0.25, test=0.25)
    assert [split_of(f"{place:02x}000000", config) for place in (0x00, 0x3F, 0x40, 0x7F, 0x80, 0xFF)] == [
        "validation", "validation", "test", "test", "train", "train",
    ]  # fmt: skip
