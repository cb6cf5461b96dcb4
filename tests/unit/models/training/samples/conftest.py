"""A version in several sizes."""

from __future__ import annotations

import pytest

from include.dataset.config import DatasetConfig
from tests.unit.include.dataset.conftest import picture, publish


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The manifest of 150 samples in four sizes: three row groups and more."""
    root = tmp_path_factory.mktemp("stream")
    (root / "images").mkdir()
    for index in range(150):
        width, height = ((32, 32), (64, 32), (32, 64), (48, 32))[index % 4]
        picture(index, width, height).save(root / "images" / f"{index:03d}.png")
        (root / "images" / f"{index:03d}.txt").write_text(f"picture {index}")
    config = DatasetConfig(name="stream", source="folder", path=root / "images", size=64, fit="bucket", validation=0.0)
    return publish(config, root).manifest
