from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from include.dataset.config import DatasetConfig

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10"><rect width="10" height="5" fill="#f00"/></svg>'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten distinct images with captions."""
    images = tmp_path / "images"
    images.mkdir()
    for index in range(10):
        Image.new("RGB", (40, 20), (20 * index, 0, 255 - 20 * index)).save(images / f"{index}.png")
        (images / f"{index}.txt").write_text(f"colour {index}\n")
    return images


@pytest.fixture
def config(folder: Path) -> Callable[..., DatasetConfig]:
    def of(**changes: object) -> DatasetConfig:
        return DatasetConfig.model_validate({"name": "colours", "source": "folder", "path": folder, "size": 16, "shard_size": 4, **changes})

    return of
