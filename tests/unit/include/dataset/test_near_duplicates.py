"""Copies are found whatever was done to them; other drawings and other colours are not copies."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw

from include.dataset.fingerprints import descriptors, fingerprint, perceptual_hashes, stacked
from include.dataset.near_duplicates import find_copies, find_pairs, turned, turned_descriptors


def drawing(seed: int, side: int = 128) -> Image.Image:
    """Discs and bars of several colours on white."""
    draw = np.random.default_rng(seed)
    image = Image.new("RGB", (side, side), "white")
    pen = ImageDraw.Draw(image)
    for _ in range(6):
        x, y = draw.integers(side // 8, side * 5 // 8, 2)
        width, height = draw.integers(side // 8, side // 3, 2)
        shape = pen.ellipse if draw.random() < 0.5 else pen.rectangle
        shape((int(x), int(y), int(x + width), int(y + height)), fill=tuple(draw.integers(0, 220, 3).tolist()), outline="black", width=2)
    return image


DRAWINGS = [drawing(seed) for seed in range(12)]


def jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=30)
    return Image.open(buffer).convert("RGB")


def matches(copies: list[Image.Image]) -> set[tuple[int, int]]:
    known, pictures = (stacked([fingerprint(image) for image in images]) for images in (DRAWINGS, copies))
    return set(find_copies(known, pictures))


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.resize((50, 50), Image.Resampling.BICUBIC),
        lambda image: image.resize((300, 200), Image.Resampling.BICUBIC),
        jpeg,
        lambda image: image.crop((4, 0, 126, 124)),
        lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        lambda image: image.transpose(Image.Transpose.ROTATE_90),
        lambda image: image.transpose(Image.Transpose.TRANSVERSE),
        lambda image: image.rotate(3, Image.Resampling.BICUBIC, fillcolor="white"),
    ],
    ids=["smaller", "stretched", "jpeg", "cropped", "mirrored", "turned", "transversed", "tilted"],
)
def test_a_copy_is_found_and_nothing_else(change: Callable[[Image.Image], Image.Image]) -> None:
    found = matches([change(image) for image in DRAWINGS])
    assert all(one == other for one, other in found)
    assert len(found) >= 11


@pytest.mark.parametrize("order", [(2, 1, 0), (1, 0, 2), (0, 2, 1)])
def test_another_colour_is_another_drawing(order: tuple[int, int, int]) -> None:
    assert matches([Image.merge("RGB", [image.split()[channel] for channel in order]) for image in DRAWINGS]) == set()


def test_a_small_change_that_is_seen_is_another_drawing() -> None:
    changed = DRAWINGS[0].copy()
    ImageDraw.Draw(changed).rectangle((4, 4, 28, 28), fill="red")
    assert matches([changed]) == set()


def test_plain_surfaces_are_told_by_their_colour() -> None:
    plain = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", (250, 0, 0), "white")]
    assert find_pairs(stacked([fingerprint(image) for image in plain])) == [(0, 2)]


def test_only_the_chosen_are_compared_with_those_before() -> None:
    pictures = stacked([fingerprint(image) for image in (DRAWINGS[0], DRAWINGS[0], DRAWINGS[1], DRAWINGS[1])])
    assert find_pairs(pictures) == [(0, 1), (2, 3)]
    assert find_pairs(pictures, np.array([2, 3])) == [(2, 3)]
    assert find_pairs(pictures, np.array([1])) == [(0, 1)]
    assert find_pairs(pictures, np.arange(0)) == []
    assert find_pairs(pictures[:1]) == []


def test_copies_do_not_hide_what_they_are_copies_of() -> None:
    known, copies = stacked([fingerprint(DRAWINGS[0])]), stacked([fingerprint(DRAWINGS[0])] * 5)
    assert find_copies(known, copies) == [(0, index) for index in range(5)]


@pytest.mark.parametrize("turn", range(8))
def test_descriptors_turn_as_their_pictures_do(turn: int) -> None:
    pictures = stacked([fingerprint(image) for image in DRAWINGS[:3]])
    assert np.allclose(
        descriptors(np.ascontiguousarray(turned(pictures, turn))), turned_descriptors(descriptors(pictures), turn), atol=1e-3
    )


def test_perceptual_hashes_have_64_bits_of_which_half_are_set() -> None:
    found = perceptual_hashes(stacked([fingerprint(image) for image in DRAWINGS]))
    assert len(set(found)) == 12
    assert {len(text) for text in found} == {16}
    assert {int(text, 16).bit_count() for text in found} == {32}
