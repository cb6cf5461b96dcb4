from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from include.dataset.config import DatasetConfig
from include.dataset.sources import SourceItem
from include.dataset.stages import RejectedError, clean_captions, decode, prepare_item
from tests.unit.include.dataset.conftest import SVG

CONFIG = DatasetConfig(size=16, max_pixels=1_000_000, max_file_bytes=10_000, max_caption=20)


def item(path: Path, *captions: str) -> SourceItem:
    return SourceItem(key=path.name, path=str(path), captions=captions or ("a caption",), license="", author="", source="")


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises ``width`` x ``height`` pixels and holds almost none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


PNG = encoded(Image.new("RGB", (30, 20), "red"), "PNG")


@pytest.mark.parametrize(
    ("name", "data", "stage", "reason"),
    [
        ("empty.png", b"", "check", "is empty"),
        ("large.png", b"x" * 10_001, "check", "max_file_bytes is 10000"),
        ("bomb.png", png_header(60_000, 60_000), "check", "pixels"),
        ("strip.png", png_header(1_000_001, 1), "check", "1000001x1 pixels; max_pixels is 1000000"),
        ("text.png", b"this is no image at all", "decode", "not a readable image"),
        ("cut.png", PNG[: len(PNG) // 2], "decode", "not a readable image"),
        ("broken.svg", b"<svg><rect", "decode", "not a drawable SVG"),
        ("other.svg", b"\xff\xfe\x00", "decode", "invalid UTF-8"),
    ],
)
def test_what_is_rejected_at_which_stage_and_why(tmp_path: Path, name: str, data: bytes, stage: str, reason: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(RejectedError) as rejected:
        prepare_item(item(tmp_path / name), CONFIG)
    assert rejected.value.stage == stage
    assert reason in rejected.value.reason


def test_a_vanished_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(RejectedError, match="can't be read"):
        prepare_item(item(tmp_path / "gone.png"), CONFIG)


def test_svg_is_drawn_on_white_at_the_asked_size() -> None:
    image = decode(SVG.encode(), ".svg", CONFIG)
    assert (image.size, image.mode) == ((16, 16), "RGB")
    assert (image.getpixel((8, 3)), image.getpixel((8, 12))) == ((255, 0, 0), (255, 255, 255))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16"])
def test_every_colour_mode_becomes_rgb(mode: str) -> None:
    form = "TIFF" if mode == "CMYK" else "PNG"
    assert decode(encoded(Image.new(mode, (30, 20)), form), ".img", CONFIG).mode == "RGB"


def test_other_aspect_ratios_are_padded_and_rotation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    upright = decode(encoded(Image.new("RGB", (32, 16), "red"), "JPEG", exif=exif), ".jpg", CONFIG)
    assert upright.getpixel((0, 8)) == (255, 255, 255)
    red, green, blue = upright.getpixel((8, 0))
    assert red > 240 and green < 20 and blue < 20


def test_captions_are_cleaned_and_the_first_decides() -> None:
    assert clean_captions(("  a\tred\x00 heart ", "", "a red heart", "other"), CONFIG) == ["a red heart", "other"]
    assert clean_captions(("short", "x" * 21), CONFIG) == ["short"]
    with pytest.raises(RejectedError, match="21 characters; max_caption is 20"):
        clean_captions(("x" * 21,), CONFIG)
    with pytest.raises(RejectedError, match="has no caption"):
        clean_captions((" \n",), CONFIG)
