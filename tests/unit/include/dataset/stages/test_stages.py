"""Files as they really come: each is a sample or a reject with a reason, and never an exception."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from include.dataset.config import DatasetConfig
from include.dataset.stages import IMAGE_STAGES, Staged, run_stages
from include.dataset.stages.decoding import decode
from include.dataset.stages.fast_png import decode_fast
from include.dataset.stages.headers import open_image
from tests.unit.include.dataset.conftest import SVG, encoded, picture, png_chunk, png_header

CONFIG = DatasetConfig(size=16, max_pixels=1_000_000, max_file_bytes=10_000)
PNG = encoded(Image.new("RGB", (30, 20), "red"))
JPEG = encoded(picture(1, 200, 100), "JPEG")


def turned() -> Image.Exif:
    """By 90 degrees."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def behind_the_pixels(png: bytes, kind: bytes, data: bytes) -> bytes:
    """The PNG with a chunk more before its last one."""
    return png[:-12] + png_chunk(kind, data.removeprefix(b"Exif\0\0")) + png[-12:]


def through(path: Path, config: DatasetConfig = CONFIG) -> Staged:
    row = {"work": "w", "path": str(path), "offset": 0, "length": None}
    schema = pa.schema([("work", pa.string()), ("path", pa.string()), ("offset", pa.int64()), ("length", pa.int64())])
    return run_stages(pa.Table.from_pylist([row], schema), IMAGE_STAGES, config)


@pytest.mark.parametrize(
    ("name", "data", "stage", "reason"),
    [
        ("empty.png", b"", "read", "the file is empty"),
        ("large.png", b"x" * 10_001, "read", "max_file_bytes"),
        ("text.png", b"hello", "header", "no image of a known format"),
        ("cut.png", PNG[:-20], "header", "truncated"),
        ("cut.jpg", JPEG[: len(JPEG) // 2], "header", "truncated"),
        ("wrong.png", PNG[:45] + b"zzzz" + PNG[49:], "decode", "not a readable image"),
        ("bomb.png", png_header(40_000, 40_000), "header", "too many pixels"),
        ("large_header.png", png_header(10_000, 1_000), "header", "the header says 10000x1000 pixels; max_pixels is 1000000"),
        ("strip.png", png_header(1_000_000, 1), "header", "max_aspect is 10"),
        ("tower.png", png_header(1, 900_000), "header", "max_aspect is 10"),
        ("lies.png", png_header(500, 500), "decode", "not a readable image"),
        ("broken.svg", b"<svg", "decode", "not a drawable SVG"),
        ("latin.svg", b"<svg>\xe4</svg>", "decode", "invalid UTF-8"),
    ],
)
def test_what_can_not_be_used_is_rejected_with_a_reason(tmp_path: Path, name: str, data: bytes, stage: str, reason: str) -> None:
    (tmp_path / name).write_bytes(data)
    staged = through(tmp_path / name)
    assert staged.kept.num_rows == 0
    (found,) = staged.rejected.to_pylist()
    assert found["stage"] == stage
    assert reason in found["reason"]


def test_an_animation_is_rejected(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    frames[0].save(tmp_path / "moves.gif", save_all=True, append_images=frames[1:])
    assert "is animated or has 3 pages" in through(tmp_path / "moves.gif").rejected["reason"][0].as_py()


def test_a_vanished_file_is_rejected(tmp_path: Path) -> None:
    assert "can't be read: No such file" in through(tmp_path / "gone.png").rejected["reason"][0].as_py()


def test_too_small_an_image_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "small.png").write_bytes(PNG)
    config = CONFIG.model_copy(update={"min_side": 21})
    assert "has 30x20 pixels; min_side is 21" in through(tmp_path / "small.png", config).rejected["reason"][0].as_py()


def test_one_bad_file_does_not_take_its_neighbours_with_it(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(PNG)
    rows = [{"work": name, "path": str(tmp_path / name), "offset": 0, "length": None} for name in ("gone.png", "good.png", "gone.jpg")]
    schema = pa.schema([("work", pa.string()), ("path", pa.string()), ("offset", pa.int64()), ("length", pa.int64())])
    staged = run_stages(pa.Table.from_pylist(rows, schema), IMAGE_STAGES, CONFIG)
    assert staged.kept["work"].to_pylist() == ["good.png"]
    assert staged.rejected["work"].to_pylist() == ["gone.png", "gone.jpg"]


def test_the_content_tells_the_format_and_not_the_name(tmp_path: Path) -> None:
    for name, data, form in (("a.jpg", PNG, "PNG"), ("b.png", SVG.encode(), "SVG"), ("c.svg", JPEG, "JPEG")):
        (tmp_path / name).write_bytes(data)
        assert through(tmp_path / name).kept["format"].to_pylist() == [form]


def test_svg_is_drawn_on_white_at_the_asked_size() -> None:
    image = decode(SVG.encode(), CONFIG)
    assert (image.size, image.mode) == ((16, 16), "RGB")
    assert (image.getpixel((8, 3)), image.getpixel((8, 12))) == ((255, 0, 0), (255, 255, 255))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16", "I", "F"])
def test_every_colour_mode_becomes_rgb(mode: str) -> None:
    form = "TIFF" if mode in ("CMYK", "I", "F") else "PNG"
    assert decode(encoded(Image.new(mode, (30, 20)), form), CONFIG).mode == "RGB"


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_the_fast_decoder_gives_the_pixels_that_pillow_gives(mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (23, 37, len(mode)), np.uint8)
    pixels[5:9] = pixels[5]
    data = encoded(Image.fromarray(pixels))
    found = decode_fast(open_image(data, CONFIG), data)
    assert found is not None and found.mode == mode
    assert np.array_equal(np.asarray(found), pixels)


@pytest.mark.parametrize(
    "data",
    [
        JPEG,
        encoded(Image.new("L", (30, 20))),
        encoded(Image.new("RGB", (30, 20), "red"), transparency=(255, 0, 0)),
        encoded(Image.new("RGB", (30, 20), "red"), exif=turned()),
        behind_the_pixels(PNG, b"eXIf", turned().tobytes()),
        PNG[:45] + b"zzzz" + PNG[49:],
        png_header(50, 50),
    ],
    ids=["jpeg", "grey", "transparent colour", "turned", "turned at the end", "damaged", "too few pixels"],
)
def test_what_the_fast_decoder_might_get_wrong_is_left_to_pillow(data: bytes) -> None:
    assert decode_fast(open_image(data, CONFIG), data) is None


def test_sixteen_bits_of_colour_are_left_to_pillow() -> None:
    body = zlib.compress((b"\0" + bytes(range(60))) * 10)
    header = struct.pack(">IIBBBBB", 10, 10, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")
    assert decode_fast(open_image(data, CONFIG), data) is None
    assert decode(data, CONFIG).size == (16, 16)


def test_an_orientation_behind_the_pixels_of_a_png_is_applied() -> None:
    data = behind_the_pixels(encoded(Image.new("RGB", (32, 16), "red")), b"eXIf", turned().tobytes())
    assert decode(data, CONFIG).size == (8, 16)


def test_sixteen_bits_keep_their_middle() -> None:
    grey = Image.fromarray(np.full((20, 20), 0x8000, np.uint16))
    assert decode(encoded(grey), CONFIG).getpixel((8, 8)) == (128, 128, 128)


def test_cmyk_keeps_its_colour() -> None:
    red, green, blue = decode(encoded(Image.new("CMYK", (20, 20), (0, 255, 255, 0)), "JPEG"), CONFIG).getpixel((8, 8))
    assert red > 200 and green < 60 and blue < 60


def test_a_palette_with_alpha_lies_on_white() -> None:
    image = Image.new("P", (32, 32), 1)
    image.putpalette([0, 0, 0, 200, 0, 0])
    image.paste(0, (0, 0, 16, 32))
    flat = decode(encoded(image, transparency=0), CONFIG)
    assert (flat.getpixel((2, 8)), flat.getpixel((13, 8))) == ((255, 255, 255), (200, 0, 0))


def test_transparent_pixels_lend_their_colour_to_nobody() -> None:
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 32, 64))
    assert {pixel for _, pixel in decode(encoded(image), CONFIG).getcolors()} == {(255, 0, 0), (255, 255, 255)}


def test_rotation_is_applied() -> None:
    upright = decode(encoded(Image.new("RGB", (32, 16), "red"), "JPEG", exif=turned()), CONFIG)
    assert upright.size == (8, 16)


@pytest.mark.parametrize(
    ("fit", "size", "corner"),
    [("pad", (16, 16), (255, 255, 255)), ("crop", (16, 16), (255, 0, 0)), ("bucket", (64, 64), (255, 0, 0))],
)
def test_other_aspect_ratios_are_padded_or_cut(tmp_path: Path, fit: str, size: tuple[int, int], corner: tuple[int, int, int]) -> None:
    Image.new("RGB", (64, 60), "red").save(tmp_path / "a.png")
    Image.new("RGB", (64, 32), "red").save(tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        staged = through(tmp_path / name, CONFIG.model_copy(update={"fit": fit, "size": size[0]}))
        width, height = staged.kept["width"][0].as_py(), staged.kept["height"][0].as_py()
        assert (width, height) == (size if fit != "bucket" or name == "a.png" else (88, 48))
    if fit != "bucket":
        image = Image.open(io.BytesIO(staged.kept["image"][0].as_py()))
        assert image.getpixel((0, 0)) == corner


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_images_are_stored_in_the_asked_format(tmp_path: Path, image_format: str) -> None:
    picture(3, 64, 64).save(tmp_path / "a.png")
    staged = through(tmp_path / "a.png", CONFIG.model_copy(update={"image_format": image_format}))
    assert Image.open(io.BytesIO(staged.kept["image"][0].as_py())).format == image_format.upper()


def test_plain_surfaces_and_blur_have_low_measures(tmp_path: Path) -> None:
    sharp, blurred = picture(4, 160, 160), picture(4, 160, 160).reduce(40).resize((160, 160), Image.Resampling.BICUBIC)
    found = []
    for name, image in (("sharp", sharp), ("blurred", blurred), ("plain", Image.new("RGB", (160, 160), "red"))):
        image.save(tmp_path / f"{name}.png")
        kept = through(tmp_path / f"{name}.png", CONFIG.model_copy(update={"size": 64, "max_file_bytes": 100_000})).kept
        found.append((kept["sharpness"][0].as_py(), kept["entropy"][0].as_py()))
    assert found[0][0] > found[1][0] > found[2][0] == 0
    assert found[2][1] == 0
