"""What is done to a graph before OpenVINO compiles it, and for which batches it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from models.backends import openvino_cpu
from models.backends.openvino_cpu import ByBatch, normalise_in_three_dimensions

OPTIONS = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}


def normalising(shape: list[int], axes: list[int]) -> openvino.Model:
    given = ops.parameter(openvino.PartialShape(shape), np.float32)
    return openvino.Model([ops.mvn(given, np.array(axes), True, 1e-6, "INSIDE_SQRT")], [given])


def heads(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).normal(3, 2, (batch, 2, 5, 4)).astype(np.float32)


def normal(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(-1, keepdims=True)) / np.sqrt(values.var(-1, keepdims=True) + 1e-6)


def kinds(model: openvino.Model) -> list[str]:
    """What OpenVINO's CPU device makes of it, operation by operation."""
    compiled = openvino.Core().compile_model(model, "CPU", OPTIONS).get_runtime_model()
    return [str(node.get_rt_info()["layerType"].astype(str)) for node in compiled.get_ops()]


@pytest.mark.parametrize("axes", [[-1], [3]])
def test_what_is_normalised_by_head_gets_a_kernel_of_its_own(axes: list[int]) -> None:
    model = normalising([-1, 2, 5, 4], axes)
    assert "MVN" not in kinds(model)
    assert normalise_in_three_dimensions(model) == 1
    assert kinds(model).count("MVN") == 1
    request = ByBatch(model, OPTIONS, [True]).of([heads(3)])
    request.infer([heads(3)])
    assert np.allclose(request.get_output_tensor().data, normal(heads(3)), atol=1e-5)


@pytest.mark.parametrize(("shape", "axes"), [([-1, 5, 4], [-1]), ([-1, 2, 5, 4], [2, 3]), ([-1, 2, 5, 4], [1])])
def test_what_is_normalised_otherwise_stays_as_it_is(shape: list[int], axes: list[int]) -> None:
    assert normalise_in_three_dimensions(normalising(shape, axes)) == 0


def answers(requests: ByBatch, batch: int) -> Any:
    request = requests.of([heads(batch)])
    request.infer([heads(batch)])
    assert np.allclose(request.get_output_tensor().data, normal(heads(batch)), atol=1e-5)
    return request


def test_the_first_batches_of_a_small_network_have_a_graph_each_and_all_others_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_cpu, "MAX_FIXED", 2)
    requests = ByBatch(normalising([-1, 2, 5, 4], [-1]), OPTIONS, [True])
    one, two, three, four = (answers(requests, batch) for batch in (1, 2, 3, 4))
    assert one is not two and three is four and three not in (one, two)
    assert answers(requests, 1) is one and answers(requests, 2) is two


def test_a_large_network_has_one_graph_for_all_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_cpu, "SMALL_BYTES", -1)
    requests = ByBatch(normalising([-1, 2, 5, 4], [-1]), OPTIONS, [True])
    assert answers(requests, 1) is answers(requests, 2)
