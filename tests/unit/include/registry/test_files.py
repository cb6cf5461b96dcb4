from __future__ import annotations

import json
from pathlib import Path

import pytest

from include.registry.errors import ModelRejectedError
from include.registry.files import LIST_NAME, FileList, list_files, verify


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    (directory / "network").mkdir(parents=True)
    (directory / "model_index.json").write_text("{}")
    (directory / "network" / "weights.safetensors").write_bytes(b"weights")
    return directory


def test_the_digest_names_the_content_not_the_place(model: Path) -> None:
    before = list_files(model)
    assert set(before.files) == {"model_index.json", "network/weights.safetensors"}
    elsewhere = model.rename(model.parent / "elsewhere")
    (elsewhere / LIST_NAME).write_bytes(before.to_json())
    assert list_files(elsewhere).digest == before.digest
    assert verify(elsewhere, before.digest) == FileList.from_json(before.to_json())


def test_any_change_is_another_digest(model: Path) -> None:
    digest = list_files(model).digest
    (model / "network" / "weights.safetensors").write_bytes(b"weightz")
    with pytest.raises(ModelRejectedError, match="changed, added or removed"):
        verify(model, digest)


@pytest.mark.parametrize("name", ["weights.bin", "weights.pt", "model.ckpt", "x.pkl", "network/deep.PTH"])
def test_pickles_are_refused_with_the_fix(model: Path, name: str) -> None:
    (model / name).write_bytes(b"x")
    with pytest.raises(ModelRejectedError, match=r"convert it to \.safetensors"):
        list_files(model)


@pytest.mark.parametrize("name", ["run.py", "lib.so", "no_suffix"])
def test_other_kinds_are_refused(model: Path, name: str) -> None:
    (model / name).write_bytes(b"x")
    with pytest.raises(ModelRejectedError, match=r"allowed: .*safetensors"):
        list_files(model)


def test_links_and_empty_directories_are_refused(model: Path, tmp_path: Path) -> None:
    (model / "link.json").symlink_to("/etc/hostname")
    with pytest.raises(ModelRejectedError, match=r"link\.json is a link"):
        list_files(model)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelRejectedError, match="holds no files"):
        list_files(tmp_path / "empty")


@pytest.mark.parametrize(
    "name", ["../../escape.json", "/etc/x.json", "a//b.json", "a/./b.json", ".hidden.json", "a\\b.json", "a/../b.json", ""]
)
def test_a_list_may_not_name_a_file_outside(name: str) -> None:
    data = json.dumps({"files": {name: {"sha256": "0" * 64, "size": 1}}}).encode()
    with pytest.raises(ModelRejectedError, match="not a plain relative path"):
        FileList.from_json(data)


@pytest.mark.parametrize(
    ("names", "words"), [(["a.json", "a.json/b.txt"], "as a file and as a folder"), ([LIST_NAME, "a.json"], "the list itself")]
)
def test_a_list_may_not_name_what_no_directory_can_hold(names: list[str], words: str) -> None:
    data = json.dumps({"files": {name: {"sha256": "0" * 64, "size": 1} for name in names}}).encode()
    with pytest.raises(ModelRejectedError, match=words):
        FileList.from_json(data)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"files": {}}', b'{"files": {"a.json": {"sha256": "0", "size": 1}}}', b"\xff"])
def test_a_list_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(ModelRejectedError, match=LIST_NAME):
        FileList.from_json(data)
