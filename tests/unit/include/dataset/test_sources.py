from __future__ import annotations

from pathlib import Path

import pytest

from include.dataset.config import DatasetConfig
from include.dataset.sources import FolderSource, OpenMojiSource, emoji_captions, source_of


def test_openmoji_has_every_drawing_with_caption_licence_and_author() -> None:
    items = list(OpenMojiSource().items())
    assert len(items) == 4495
    assert [item.key for item in items if not item.captions] == []
    assert {item.license for item in items} == {"CC BY-SA 4.0"}
    assert sum(item.author != "OpenMoji" for item in items) > 4000
    pizza = next(item for item in items if item.key == "1F355")
    assert pizza.captions[0] == "pizza"
    assert pizza.author.endswith(", OpenMoji")


@pytest.mark.parametrize(("codes", "caption"), [("2764-FE0F", "red heart"), ("2764", "red heart"), ("1F680", "rocket"), ("1F355", "pizza")])
def test_names_of_emoji(codes: str, caption: str) -> None:
    assert emoji_captions(codes)[0] == caption


def test_the_annotation_serves_where_unicode_has_no_name() -> None:
    assert emoji_captions("E300", "female doctor") == ("female doctor",)


def test_a_folder_gives_images_in_order_with_the_lines_beside_them(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "0.png").rename(folder / "sub" / "last.PNG")
    (folder / "1.txt").write_text("  first \n\n second\n")
    (folder / "notes.md").write_text("not an image")
    items = list(FolderSource(folder, license="CC0", author="A").items())
    assert [item.key for item in items] == [f"{index}.png" for index in range(1, 10)] + ["sub/last.PNG"]
    assert items[0].captions == ("first", "second")
    assert items[-1].captions == ()
    assert (items[0].license, items[0].author) == ("CC0", "A")


def test_no_such_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        list(source_of(DatasetConfig(source="folder", path=tmp_path / "nowhere")).items())
