from __future__ import annotations

import pytest

from include.dataset.sources import OpenMojiSource
from include.dataset.sources.openmoji import emoji_captions


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
