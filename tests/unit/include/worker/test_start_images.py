from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from include.storage.directory import DirectoryStore
from include.worker.start_images import MAX_BYTES, StartImageError, load_start_image
from tests.support.leases import render_task

KEY = "inputs/acme/start.png"


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "objects")


def encoded(image: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def load(store: DirectoryStore, data: bytes, key: str = KEY, width: int = 16, height: int = 16) -> Image.Image:
    store.put_if_absent(key, data, "image/png")
    return load_start_image(store, render_task(init_image=key, strength=0.5, width=width, height=height))


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
def test_it_comes_at_the_size_that_is_rendered(store: DirectoryStore, image_format: str) -> None:
    image = load(store, encoded(Image.new("RGB", (64, 64), "red"), image_format), width=32, height=16)
    assert (image.size, image.mode) == ((32, 16), "RGB")
    red, green, _ = image.getpixel((5, 5))  # type: ignore[misc]
    assert red > 240
    assert green < 15


def test_the_middle_is_kept_where_the_aspect_differs(store: DirectoryStore) -> None:
    wide = Image.new("RGB", (48, 16), "red")
    wide.paste("blue", (16, 0, 32, 16))
    assert load(store, encoded(wide)).getpixel((0, 0)) == (0, 0, 255)


def test_transparency_is_shown_on_white_and_palettes_are_read(store: DirectoryStore) -> None:
    assert load(store, encoded(Image.new("RGBA", (16, 16), (0, 0, 0, 0)))).getpixel((3, 3)) == (255, 255, 255)
    palette = encoded(Image.new("RGB", (16, 16), "blue").quantize(2))
    assert load(store, palette, "inputs/acme/palette.png").getpixel((3, 3)) == (0, 0, 255)


def test_it_is_turned_upright(store: DirectoryStore) -> None:
    image = Image.new("RGB", (16, 16), "red")
    image.paste("blue", (0, 0, 16, 8))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    red, _, blue = load(store, encoded(image, "JPEG", exif=exif, quality=95)).getpixel((8, 2))  # type: ignore[misc]
    assert red > 200 > blue


def bomb(side: int) -> bytes:
    """A PNG whose header promises more than its few bytes hold."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"no image", "no image of a known format; send PNG, JPEG, WEBP"),
        (b"", "no image of a known format"),
        (encoded(Image.new("RGB", (8, 8)), "GIF"), "no image of a known format"),
        (encoded(Image.effect_noise((64, 64), 90))[:-600], "can't be decoded"),
        (bomb(7000), "has 7000x7000 pixels; send one of at most"),
        (bomb(60_000), "inputs/acme/start.png"),
        (b"\x89PNG" + b"\0" * MAX_BYTES, f"send one of at most {MAX_BYTES}"),
    ],
    ids=["text", "empty", "gif", "cut", "bomb", "larger bomb", "large"],
)
def test_what_is_no_image_to_start_from_is_refused(store: DirectoryStore, data: bytes, words: str) -> None:
    with pytest.raises(StartImageError, match=r"^init_image: ") as caught:
        load(store, data)
    assert words in str(caught.value)


def test_another_tenants_or_a_missing_image_is_refused(store: DirectoryStore) -> None:
    with pytest.raises(StartImageError, match="is not one of tenant acme"):
        load(store, encoded(Image.new("RGB", (8, 8))), "inputs/globex/start.png")
    with pytest.raises(StartImageError, match=r"there is no object inputs/acme/none\.png"):
        load_start_image(store, render_task(init_image="inputs/acme/none.png", strength=0.5))
