"""The layouts that people bring: sidecars, Hugging Face tables, webdataset tars."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include.dataset.config import DatasetConfig
from include.dataset.sources import FolderSource, SourceItem, source_of
from include.dataset.trees import read_range
from tests.unit.include.dataset.conftest import encoded, picture


def items_of(folder: Path, **options: str) -> dict[str, SourceItem]:
    items = list(FolderSource(str(folder), **options).items())
    assert [item.key for item in items] == sorted({item.key for item in items})
    return {item.key: item for item in items}


def test_a_folder_gives_images_in_order_with_the_lines_beside_them(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "0.png").rename(folder / "sub" / "last.PNG")
    (folder / "1.txt").write_text("  first \n\n second\n")
    (folder / "notes.md").write_text("not an image")
    items = items_of(folder, license="CC0", author="A")
    assert list(items) == [f"{index}.png" for index in range(1, 10)] + ["sub/last.PNG"]
    assert items["1.png"].captions == ("first", "second")
    assert items["sub/last.PNG"].captions == ()
    assert (items["1.png"].license, items["1.png"].author) == ("CC0", "A")


@pytest.mark.parametrize(
    ("content", "captions", "author"),
    [
        ({"caption": "a cat", "artist": "Ann", "license": "CC BY 4.0"}, ("a cat",), "Ann"),
        ({"captions": ["a cat", "a pet"], "text": "a pet"}, ("a cat", "a pet"), ""),
        (["one", "two"], ("one", "two"), ""),
        ("just this", ("just this",), ""),
    ],
)
def test_a_json_beside_an_image_says_what_it_says(folder: Path, content: Any, captions: tuple[str, ...], author: str) -> None:
    (folder / "0.txt").unlink()
    (folder / "0.json").write_text(json.dumps(content))
    found = items_of(folder)["0.png"]
    assert (found.captions, found.author) == (captions, author)


def rows() -> list[dict[str, Any]]:
    return [
        {"file_name": "0.png", "text": "from the table", "license": "CC0", "author": "Ann"},
        {"file_name": "0.png", "text": "named twice", "license": "", "author": ""},
        {"file_name": "gone.png", "text": "nowhere", "license": "", "author": ""},
    ]


def write_table(folder: Path, kind: str) -> None:
    path = folder / f"metadata.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    elif kind == "csv":
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, list(rows()[0]))
        writer.writeheader()
        writer.writerows(rows())
        path.write_text(buffer.getvalue())
    else:
        pq.write_table(pa.Table.from_pylist(rows()), path)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_tables_as_hugging_face_has_them(folder: Path, kind: str) -> None:
    write_table(folder, kind)
    items = items_of(folder, author="B")
    assert items["0.png"].captions == ("picture 0", "from the table", "named twice")
    assert (items["0.png"].license, items["0.png"].author, items["1.png"].author) == ("CC0", "Ann", "B")
    assert "not there" in items["gone.png"].problem
    assert not items["0.png"].problem


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metadata.jsonl", b'{"file_name": "0.png"}\n{oops', "metadata.jsonl, line 2 is not JSON"),
        ("metadata.jsonl", b"[1]", "line 1 is not an object"),
        ("metadata.csv", b"caption\na cat\n", "row 1: names no file"),
        ("metadata.csv", b"\xff\xfe\x00", "can't be read as a table"),
        ("metadata.parquet", b"PAR1", "can't be read as a table"),
        ("0.json", b"{", "0.json is not JSON"),
        ("broken.tar", b"x" * 2000, r"broken.tar can't be read as a tar"),
    ],
)
def test_a_broken_table_is_an_error_that_says_where(folder: Path, name: str, content: bytes, message: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        items_of(folder)


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_a_webdataset_tar_is_read_in_place(tmp_path: Path) -> None:
    first, second = encoded(picture(1)), encoded(picture(2), "JPEG")
    members = [
        ("a/000.png", first),
        ("a/000.txt", b"one\n"),
        ("a/001.jpg", second),
        ("a/001.json", json.dumps({"caption": "two", "author": "Ann"}).encode()),
        ("a/001.cls", b"3"),
    ]
    write_tar(tmp_path / "s.tar", members)
    items = items_of(tmp_path, license="CC0")
    assert {key: item.captions for key, item in items.items()} == {"s.tar/a/000.png": ("one",), "s.tar/a/001.jpg": ("two",)}
    assert (items["s.tar/a/001.jpg"].author, items["s.tar/a/001.jpg"].license) == ("Ann", "CC0")
    for key, data in (("s.tar/a/000.png", first), ("s.tar/a/001.jpg", second)):
        assert read_range(items[key].path, items[key].offset, items[key].length) == data


def test_two_members_of_one_name_are_two_samples(tmp_path: Path) -> None:
    write_tar(tmp_path / "s.tar", [("0.png", encoded(picture(1))), ("0.txt", b"one"), ("0.png", encoded(picture(2)))])
    assert list(items_of(tmp_path)) == ["s.tar/0.png", "s.tar/0.png#2"]


def test_no_such_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        list(source_of(DatasetConfig(source="folder", path=tmp_path / "nowhere")).items())


def test_a_bucket_without_a_name_is_an_error() -> None:
    with pytest.raises(ValueError, match="s3:///x' names no bucket"):
        list(FolderSource("s3:///x").items())
