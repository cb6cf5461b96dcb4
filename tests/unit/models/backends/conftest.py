"""A network wide enough for int8 and a place where graphs are kept for the whole session, since an export takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.pipelines.text_to_image import AtelierTextToImagePipeline
from tests.support.tiny_pipeline import tiny_pipeline


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def pipeline() -> AtelierTextToImagePipeline:
    return tiny_pipeline(inner_dim=64)


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")
