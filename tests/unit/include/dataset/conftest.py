from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from include.dataset.config import DatasetConfig
from include.dataset.shards import plan_shards, prepare_shard
from include.dataset.versions import DatasetVersion, publish_version

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10"><rect width="10" height="5" fill="#f00"/></svg>'


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises ``width`` x ``height`` pixels and holds almost none."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(b"\0")) + png_chunk(b"IEND", b"")


def picture(seed: int, width: int = 40, height: int = 20) -> Image.Image:
    """Patches of colour that no other seed has."""
    patches = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return Image.fromarray(patches).resize((width, height), Image.Resampling.NEAREST)


def publish(config: DatasetConfig, root: Path) -> DatasetVersion:
    return publish_version([prepare_shard(plan) for plan in reversed(plan_shards(config, root))], root)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten distinct images with captions."""
    images = tmp_path / "images"
    images.mkdir()
    for index in range(10):
        picture(index).save(images / f"{index}.png")
        (images / f"{index}.txt").write_text(f"picture {index}\n")
    return images


@pytest.fixture
def config(folder: Path) -> Callable[..., DatasetConfig]:
    def of(**changes: object) -> DatasetConfig:
        return DatasetConfig.model_validate(
            {"name": "pictures", "source": "folder", "path": folder, "size": 16, "shard_size": 4, **changes}
        )

    return of
