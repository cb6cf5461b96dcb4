"""Stage ``decode``: from a file's bytes to RGB at the dataset's size, no larger at any time than it must be."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pyarrow as pa
import resvg_py
from PIL import Image, ImageOps

from include.dataset.config import DatasetConfig
from include.dataset.fingerprints import fingerprint
from include.dataset.fitting import on_white, place, scaled_size, shrink, target_size
from include.dataset.stages.batches import Staged, each_row
from include.dataset.stages.fast_png import decode_fast
from include.dataset.stages.headers import is_svg, open_image
from include.dataset.stages.rejection import RejectedError

DECODE = "decode"
_ORIENTATION = 0x0112  #: EXIF tag
_ALPHA = frozenset({"RGBA", "LA", "La", "PA", "RGBa"})
_DEEP = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I", "F"})


def decode_images(table: pa.Table, config: DatasetConfig) -> Staged:
    """Exchanges ``data`` for ``pixels``, (height, width, 3) uint8, and the fingerprint of the whole image."""

    def work(row: dict[str, object]) -> dict[str, object]:
        content = decode(memoryview(row["data"]), config)  # type: ignore[arg-type]
        target = target_size(*content.size, config.size, config.fit) if row["format"] != "SVG" else (config.size, config.size)
        image = place(content, target)
        return {"pixels": image.tobytes(), "width": image.width, "height": image.height, "fingerprint": fingerprint(content)}

    sizes = [("width", pa.int32()), ("height", pa.int32())]
    return each_row(table, work, adds=[("pixels", pa.large_binary()), *sizes, ("fingerprint", pa.binary())], drops=["data"])


def decode(data: bytes | memoryview, config: DatasetConfig) -> Image.Image:
    """RGB on white, turned upright, and scaled to the dataset's size without yet being padded or cut."""
    return _drawn(bytes(data), config.size) if is_svg(data) else _decoded(data, config)


def _drawn(svg: bytes, size: int) -> Image.Image:
    try:
        png = bytes(resvg_py.svg_to_bytes(svg_string=svg.decode("utf-8"), width=size, height=size, skip_system_fonts=True))
        image = ImageOps.contain(Image.open(io.BytesIO(png)).convert("RGBA"), (size, size))
    except UnicodeDecodeError as error:
        raise RejectedError(DECODE, "not an SVG: invalid UTF-8") from error
    except (ValueError, RuntimeError, OSError) as error:
        raise RejectedError(DECODE, f"not a drawable SVG: {error}") from error
    return on_white(image)


def _decoded(data: bytes | memoryview, config: DatasetConfig) -> Image.Image:
    file = open_image(data, config)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
            image = decode_fast(file, data) or _decoded_by_pillow(file, config)
    except (OSError, SyntaxError, ValueError, MemoryError) as error:
        raise RejectedError(DECODE, f"not a readable image: {error}") from error
    target = target_size(*image.size, config.size, config.fit)
    size = scaled_size(*image.size, target, config.fit)
    return shrink(on_white(image) if image.mode == "RGBA" else image, size)


def _decoded_by_pillow(file: Image.Image, config: DatasetConfig) -> Image.Image:
    file.draft("RGB", (2 * config.size, 2 * config.size))
    return _upright(_plain(file))


def _upright(image: Image.Image) -> Image.Image:
    # Pillow copies an image that is upright already.
    return ImageOps.exif_transpose(image) if image.getexif().get(_ORIENTATION, 1) != 1 else image


def _plain(file: Image.Image) -> Image.Image:
    """RGB, or RGBA where there is anything to see through."""
    if file.mode in _DEEP:
        return _eight_bits(file)
    wanted = "RGBA" if file.mode in _ALPHA or "transparency" in file.info else "RGB"
    file.load()
    return file if file.mode == wanted else file.convert(wanted)


def _eight_bits(file: Image.Image) -> Image.Image:
    """Of 16-bit greys the upper half; Pillow would clip them. Of wider ones what lies between their least and greatest."""
    values = np.asarray(file)
    if values.dtype.itemsize == 2 or (values.dtype.kind == "i" and 255 < values.max(initial=0) < 65536 and values.min(initial=0) >= 0):
        grey = (values.astype(np.int64) >> 8).astype(np.uint8)
    else:
        low, high = float(values.min()), float(values.max())
        grey = ((values - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)
    image = Image.fromarray(grey, "L").convert("RGB")
    image.info.update({name: file.info[name] for name in ("exif",) if name in file.info})
    return image
