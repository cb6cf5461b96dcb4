"""What happens to one sample: check, decode, caption. Each stage returns its result or raises :class:`RejectedError`."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path
from typing import Any

import resvg_py
from PIL import Image, ImageOps

from include.dataset.config import DatasetConfig
from include.dataset.sources import SourceItem

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_SPACES = re.compile(r"\s+")
WHITE = (255, 255, 255)


class RejectedError(Exception):
    """A sample that can't be used; says at which stage and why."""

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(f"{stage}: {reason}")
        self.stage, self.reason = stage, reason


def prepare_item(item: SourceItem, config: DatasetConfig) -> dict[str, Any]:
    """One row of a shard."""
    data = check(Path(item.path), config)
    image = decode(data, Path(item.path).suffix.lower(), config)
    captions = clean_captions(item.captions, config)
    return {
        "key": item.key,
        "image": png_bytes(image),
        "width": image.width,
        "height": image.height,
        "caption": captions[0],
        "captions": captions,
        "license": item.license,
        "author": item.author,
        "source": item.source,
        "sha256": hashlib.sha256(image.tobytes()).hexdigest(),
    }


def check(path: Path, config: DatasetConfig) -> bytes:
    """The file's bytes, if its size is acceptable."""
    try:
        size = path.stat().st_size
        if size == 0:
            raise RejectedError("check", "the file is empty")
        if size > config.max_file_bytes:
            raise RejectedError("check", f"the file has {size} bytes; max_file_bytes is {config.max_file_bytes}")
        return path.read_bytes()
    except OSError as error:
        raise RejectedError("check", f"can't be read: {error.strerror}") from error


def decode(data: bytes, suffix: str, config: DatasetConfig) -> Image.Image:
    """RGB of ``config.size`` squared on white; other aspect ratios are padded."""
    image = _rasterise(data, config.size) if suffix == ".svg" else _decode_raster(data, config)
    flat = Image.new("RGB", (config.size, config.size), WHITE)
    flat.paste(image, ((config.size - image.width) // 2, (config.size - image.height) // 2), image)
    return flat


def _rasterise(svg: bytes, size: int) -> Image.Image:
    """A vector image has no decoded size of its own, so that it can't be a decode bomb at a fixed ``size``."""
    try:
        png = bytes(resvg_py.svg_to_bytes(svg_string=svg.decode("utf-8"), width=size, height=size, skip_system_fonts=True))
        image = Image.open(io.BytesIO(png)).convert("RGBA")
    except UnicodeDecodeError as error:
        raise RejectedError("decode", "not an SVG: invalid UTF-8") from error
    except (ValueError, RuntimeError, OSError) as error:
        raise RejectedError("decode", f"not a drawable SVG: {error}"[:300]) from error
    return ImageOps.contain(image, (size, size))


def _decode_raster(data: bytes, config: DatasetConfig) -> Image.Image:
    try:
        file = Image.open(io.BytesIO(data))
        if file.width * file.height > config.max_pixels:
            raise RejectedError("check", f"the header says {file.width}x{file.height} pixels; max_pixels is {config.max_pixels}")
        file.draft("RGB", (2 * config.size, 2 * config.size))
        image = ImageOps.exif_transpose(file).convert("RGBA")
        return ImageOps.contain(image, (config.size, config.size), Image.Resampling.LANCZOS)
    except Image.DecompressionBombError as error:
        raise RejectedError("check", f"the header promises too many pixels; max_pixels is {config.max_pixels}") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise RejectedError("decode", f"not a readable image: {error}"[:300]) from error


def clean_captions(captions: tuple[str, ...], config: DatasetConfig) -> list[str]:
    cleaned = [_SPACES.sub(" ", _CONTROL.sub(" ", caption)).strip() for caption in captions]
    cleaned = list(dict.fromkeys(caption for caption in cleaned if caption))
    if not cleaned:
        raise RejectedError("caption", "has no caption")
    if len(cleaned[0]) > config.max_caption:
        raise RejectedError("caption", f"the caption has {len(cleaned[0])} characters; max_caption is {config.max_caption}")
    return [caption for caption in cleaned if len(caption) <= config.max_caption]


def png_bytes(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()
