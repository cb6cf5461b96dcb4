from __future__ import annotations

import pytest

from include.dataset.captions import clean_captions, language_of
from include.dataset.config import DatasetConfig
from include.dataset.stages import RejectedError

CONFIG = DatasetConfig(max_caption=20)


def test_captions_are_cleaned_and_the_first_decides() -> None:
    assert clean_captions(("  a\tred\x00 heart ", "", "a red heart", "other"), CONFIG) == ["a red heart", "other"]
    assert clean_captions(("<b>a</b> cafe\u0301",), CONFIG) == ["a café"]
    assert clean_captions(("short", "x y" * 10), CONFIG) == ["short"]


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("x" * 100_000, "100000 characters; max_caption is 20"),
        (" \n", "has no caption"),
        ("<br>", "has no caption"),
        ("IMG_2034.JPG", "file name"),
        ("http://x.org/a", "address"),
        ("!!!!!!!!", "says nothing"),
        ("Untitled", "says nothing"),
    ],
)
def test_a_caption_that_says_nothing_is_rejected(caption: str, reason: str) -> None:
    with pytest.raises(RejectedError, match=reason):
        clean_captions((caption,), CONFIG)


def test_a_better_caption_replaces_a_bad_one() -> None:
    assert clean_captions(("photo.jpg", "a cat"), CONFIG) == ["a cat"]


@pytest.mark.parametrize(
    ("caption", "language"),
    [
        ("the cat is on the roof of a house", "en"),
        ("die Katze ist auf dem Dach und schläft", "de"),
        ("le chat est sur le toit avec une souris", "fr"),
        ("el gato está en el tejado de la casa", "es"),
        ("red heart", ""),
        ("赤いハート", ""),
    ],
)
def test_the_language_is_told_where_it_can_be(caption: str, language: str) -> None:
    assert language_of(caption) == language


def test_captions_in_another_language_are_dropped() -> None:
    config = DatasetConfig(caption_language="en")
    assert clean_captions(("die Katze ist auf dem Dach und schläft", "red heart"), config) == ["red heart"]
    with pytest.raises(RejectedError, match="the caption is in de; caption_language is en"):
        clean_captions(("die Katze ist auf dem Dach und schläft",), config)


def test_templates_add_captions() -> None:
    config = DatasetConfig(caption_templates=("a drawing of {caption}",))
    assert clean_captions(("a cat",), config) == ["a cat", "a drawing of a cat"]
