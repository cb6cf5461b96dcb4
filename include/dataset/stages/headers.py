"""Stage ``header``: what the first bytes promise, judged before anything is decoded."""

from __future__ import annotations

import io
import warnings

import pyarrow as pa
from PIL import Image

from include.dataset.config import DatasetConfig
from include.dataset.stages.batches import Staged, each_row
from include.dataset.stages.rejection import RejectedError

HEADER = "header"
#: What a whole file of the format ends with, and within how many bytes of its end: cameras and editors append things.
_ENDS = {"PNG": b"IEND", "JPEG": b"\xff\xd9"}


def check_headers(table: pa.Table, config: DatasetConfig) -> Staged:
    return each_row(table, lambda row: check_header(memoryview(row["data"]), config), adds=[("format", pa.string())])


def check_header(data: bytes | memoryview, config: DatasetConfig) -> dict[str, str]:
    """The format, told from the content and not from the name."""
    if is_svg(data):
        # A vector image has no size of its own, so that it can't be a decode bomb at a size that we choose.
        return {"format": "SVG"}
    file = open_image(data, config)
    frames = getattr(file, "n_frames", 1)
    if file.format != "MPO" and frames > 1:  # an MPO is a photo with its preview
        raise RejectedError(HEADER, f"is animated or has {frames} pages; give a still image")
    width, height = file.size
    if width * height > config.max_pixels:
        raise RejectedError(HEADER, f"the header says {width}x{height} pixels; max_pixels is {config.max_pixels}")
    if min(width, height) < config.min_side:
        raise RejectedError(HEADER, f"has {width}x{height} pixels; min_side is {config.min_side}")
    if max(width, height) > config.max_aspect * min(width, height):
        raise RejectedError(HEADER, f"has {width}x{height} pixels; max_aspect is {config.max_aspect:g}")
    end = _ENDS.get(file.format or "")
    if end and end not in bytes(data[-4096:]):
        raise RejectedError(HEADER, "is truncated: the file has no end")
    return {"format": file.format or ""}


def is_svg(data: bytes | memoryview) -> bool:
    head = bytes(data[:1024]).lstrip(b"\xef\xbb\xbf \t\r\n")
    return head.startswith((b"<svg", b"<?xml", b"<!--", b"<!DOCTYPE svg")) and (b"<svg" in bytes(data[:65536]))


def open_image(data: bytes | memoryview, config: DatasetConfig) -> Image.Image:
    """Reads the header only. Raises :class:`RejectedError` where there is none, or where it promises absurdly much."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # max_pixels decides
            warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
            return Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise RejectedError(HEADER, f"the header promises too many pixels; max_pixels is {config.max_pixels}") from error
    except (OSError, SyntaxError, ValueError, OverflowError) as error:
        raise RejectedError(HEADER, "is no image of a known format") from error
