"""A listing reads what is new beside its images, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from include.dataset.sources import FolderSource, SourceItem
from include.dataset.sources import folder as folder_source
from include.dataset.sources.memory import memory_of
from tests.unit.include.dataset.conftest import encoded, picture
from tests.unit.include.dataset.sources.test_folder import write_tar


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that listings have read."""
    read: list[str] = []
    original = folder_source.read_range

    def counted(path: str) -> bytes:
        read.append(Path(path).name)
        return original(path)

    monkeypatch.setattr(folder_source, "read_range", counted)
    return read


def listed(folder: Path, root: Path) -> dict[str, SourceItem]:
    memory = memory_of(root, str(folder))
    return {item.key: item for item in FolderSource(str(folder), license="CC0", memory=memory).items()}


def test_only_new_and_changed_sidecars_are_read(folder: Path, tmp_path: Path, reads: list[str]) -> None:
    (folder / "1.json").write_text('{"caption": "told by JSON", "author": "Ann"}')
    first = listed(folder, tmp_path)
    assert sorted(reads) == sorted(["1.json", *(f"{index}.txt" for index in range(10))])
    reads.clear()
    assert listed(folder, tmp_path) == first and reads == []
    (folder / "3.txt").write_text("said otherwise")
    assert listed(folder, tmp_path)["3.png"].captions == ("said otherwise",)
    assert reads == ["3.txt"]


def test_a_caption_of_the_same_length_and_another_time_is_read_again(folder: Path, tmp_path: Path) -> None:
    (folder / "0.txt").write_text("red")
    listed(folder, tmp_path)
    (folder / "0.txt").write_text("dog")
    os.utime(folder / "0.txt", ns=(1, 1))
    assert listed(folder, tmp_path)["0.png"].captions == ("dog",)


def test_what_is_gone_is_forgotten(folder: Path, tmp_path: Path, reads: list[str]) -> None:
    listed(folder, tmp_path)
    kept = (folder / "2.txt").rename(tmp_path / "2.txt")
    assert listed(folder, tmp_path)["2.png"].captions == ()
    reads.clear()
    kept.rename(folder / "2.txt")
    assert listed(folder, tmp_path)["2.png"].captions == ("picture 2",)
    assert reads == ["2.txt"]


def test_a_tar_is_looked_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "tars"
    place.mkdir()
    write_tar(place / "s.tar", [("0.png", encoded(picture(1))), ("0.txt", b"one"), ("0.png", encoded(picture(2)))])
    first = listed(place, tmp_path)
    monkeypatch.setattr(folder_source, "members_of", lambda entry: pytest.fail(f"{entry.key} is read again"))
    assert listed(place, tmp_path) == first
    assert [item.license for item in first.values()] == ["CC0", "CC0"]


@pytest.mark.parametrize("content", [b"", b"{", b"[99, {}]", b"[1]", b"7"])
def test_a_memory_that_is_broken_or_of_another_release_is_made_anew(folder: Path, tmp_path: Path, content: bytes) -> None:
    first = listed(folder, tmp_path)
    (memory,) = (tmp_path / ".cache" / "listings").iterdir()
    memory.write_bytes(content)
    assert listed(folder, tmp_path) == first
    assert memory.read_bytes() != content
