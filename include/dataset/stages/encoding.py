"""Stage ``encode``: pixels to the bytes that a dataset stores."""

from __future__ import annotations

import io

import pyarrow as pa
from PIL import Image

from include.dataset.config import DatasetConfig
from include.dataset.stages.batches import Staged, each_row


def encode_images(table: pa.Table, config: DatasetConfig) -> Staged:
    """Exchanges ``pixels`` for ``image``."""

    def work(row: dict[str, object]) -> dict[str, object]:
        image = Image.frombuffer("RGB", (row["width"], row["height"]), row["pixels"], "raw", "RGB", 0, 1)  # type: ignore[arg-type]
        return {"image": encode(image, config)}

    return each_row(table, work, adds=[("image", pa.large_binary())], drops=["pixels"])


def encode(image: Image.Image, config: DatasetConfig) -> bytes:
    options = {"png": {"compress_level": 6}, "jpeg": {"quality": config.quality}, "webp": {"quality": config.quality, "method": 2}}
    buffer = io.BytesIO()
    image.save(buffer, config.image_format, **options[config.image_format])
    return buffer.getvalue()
