"""The contract of every backend, on each that can run here: eager's images within its tolerance, and one opening for all batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.backends import base
from models.backends.attached import EAGER, Attachment
from models.backends.base import Availability, BackendError, Prepared
from models.backends.calls import Call
from models.backends.known import BACKENDS, backend_named
from models.backends.onnx_graph import LAYOUT
from models.backends.onnx_runtime import OnnxRuntime
from models.pipelines.text_to_image import AtelierTextToImagePipeline
from tests.support.device import DEVICE

#: They need minutes for what the others do in seconds; `python -m tests.benchmarks.worker_throughput --all` runs them.
SLOW = {"torch-compile"}
MEASURED = [name for name in BACKENDS if name not in SLOW]


def images(pipeline: AtelierTextToImagePipeline, items: int) -> np.ndarray:
    prompts = ["red heart", "a small house beside a river"][:items]
    return np.stack([np.asarray(image, dtype=float) for image in pipeline(prompts, num_inference_steps=6, seed=[1, 2][:items]).images])


@pytest.mark.parametrize("name", MEASURED)
def test_images_are_those_of_eager(name: str, pipeline: AtelierTextToImagePipeline, graphs: Path) -> None:
    backend = BACKENDS[name]
    found = backend.availability(DEVICE)
    if not found.usable:
        pytest.skip(f"{name}: {found.detail}")
    pipeline.to(DEVICE)
    expected = images(pipeline, 2)
    opened: list[str] = []
    attachment = Attachment(pipeline.network, graphs, lambda key: opened.append(key) or backend)
    together, alone = images(pipeline, 2), images(pipeline, 1)
    assert not attachment.failed
    assert (attachment.ran, len(opened)) == (name, 1)
    difference = np.abs(together - expected)
    assert difference.max() <= backend.tolerance.max
    assert difference.mean(axis=(1, 2, 3)).max() <= backend.tolerance.mean
    if backend.tolerance is base.EXACT:
        assert np.abs(together[0] - alone[0]).max() <= base.EXACT.max


def test_a_graph_is_exported_once_and_read_by_the_next_process(pipeline: AtelierTextToImagePipeline, graphs: Path) -> None:
    attachment = Attachment(pipeline.network, graphs, lambda key: BACKENDS["onnxruntime"])
    images(pipeline, 1)
    assert not attachment.failed
    layouts = {path: path.stat().st_mtime_ns for path in graphs.rglob(LAYOUT)}
    attachment.detach()
    again = Attachment(pipeline.network, graphs, lambda key: BACKENDS["openvino"])
    images(pipeline, 1)
    assert again.ran == "openvino"
    assert {path: path.stat().st_mtime_ns for path in graphs.rglob(LAYOUT)} == layouts
    assert not list(graphs.rglob(".part-*"))


def test_what_can_not_be_exported_is_refused_with_the_reason(tmp_path: Path) -> None:
    class Two(torch.nn.Module):
        def forward(self, sample: torch.Tensor) -> list[torch.Tensor]:
            return [sample, sample]

    prepared: Prepared = OnnxRuntime().prepare(Two())
    with pytest.raises(BackendError, match="gives a list"):
        prepared.open(Call.of(Two(), [torch.zeros(1, 3)], {}), tmp_path)
    assert not list(tmp_path.rglob(LAYOUT))


def test_a_name_that_is_no_backend_is_refused_with_the_names_that_are() -> None:
    assert backend_named(EAGER).name == EAGER
    with pytest.raises(ValueError, match=r"backend 'tpu': use auto or one of torch-eager.*atelier doctor"):
        backend_named("tpu")


def test_a_package_that_is_not_there_is_named() -> None:
    found = base.installed("no-such-package", "no_such_package")
    assert found == Availability(usable=False, detail="no-such-package is not installed: pip install no-such-package")


@pytest.mark.parametrize(("name", "device", "reason"), [("onnxruntime", "cuda:0", "CPU only"), ("tensorrt", "cpu", "needs a CUDA GPU")])
def test_a_device_that_a_backend_does_not_run_on_is_said(name: str, device: str, reason: str) -> None:
    found = BACKENDS[name].availability(device)
    assert not found.usable
    assert reason in found.detail
