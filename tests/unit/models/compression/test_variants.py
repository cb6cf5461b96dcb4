"""Each variant is built, and comes back from its files as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from include.contracts.control import ModelDefaults
from models.backends.attached import denoiser_of
from models.compression.base import VariantError
from models.compression.children import measured
from models.compression.directories import PIPELINE, DamagedVariantError, link_tree, size_mb, writing_directory
from models.compression.kinds import KINDS, chosen
from models.compression.known import VARIANTS
from models.compression.plan import Original, SweepPlan
from models.compression.pruning import blocks, pruned, recorded, refitted
from models.compression.quantization import pack_int4, unpack_int4
from models.compression.sweep import run_sweep
from models.compression.weights import without_smallest
from models.pipelines.golden import read_golden
from models.pipelines.loading import load_text_to_image
from models.training.distill_steps import main as distill_steps
from tests.support.tiny_dataset import write_tiny_dataset
from tests.support.tiny_pipeline import tiny_pipeline

PlanOf = Callable[..., SweepPlan]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def build(plan: SweepPlan, name: str) -> Path:
    with writing_directory(plan.built_directory(name)) as folder:
        VARIANTS[name].build(plan, folder)
    return plan.built_directory(name)


def test_every_kind_can_be_built_and_nothing_else() -> None:
    assert list(VARIANTS) == list(KINDS)


def test_an_unknown_name_is_refused_with_the_field_and_the_choices() -> None:
    assert chosen(["int8", "fp32", "int8"]) == ("fp32", "int8")
    with pytest.raises(ValueError, match=r"variants: there is no variant 'int3'; there are: fp32, bf16"):
        chosen(["int3"])


@pytest.mark.parametrize(
    ("name", "most", "differs"), [("bf16", 0.51, 3.0), ("int8", 0.6, 6.0), ("int4", 0.45, 40.0), ("pruned-25", 0.97, 12.0)]
)
def test_it_is_smaller_and_its_images_are_near_the_originals(plan_of: PlanOf, name: str, most: float, differs: float) -> None:
    plan = plan_of("fp32", name)
    build(plan, "fp32")
    build(plan, name)
    original, images = measured(plan, VARIANTS["fp32"])
    figures, found = measured(plan, VARIANTS[name])
    assert figures.network_mb < most * original.network_mb
    assert 0 < np.abs(found.astype(float) - images).mean() < differs
    assert found.shape == (4, 16, 16, 3)


def test_quantized_weights_come_back_bit_for_bit(plan_of: PlanOf) -> None:
    plan = plan_of("int4")
    folder = build(plan, "int4")
    first, second = (denoiser_of(VARIANTS["int4"].load(folder, "cpu")).state_dict() for _ in range(2))
    from models.compression.quantization import quantized, weight_only_int4

    expected = quantized(denoiser_of(load_text_to_image(plan.original.directory, "cpu")), weight_only_int4()).state_dict()
    for name, tensor in expected.items():
        if type(tensor) is torch.Tensor:
            assert torch.equal(first[name], tensor)
        else:
            assert torch.equal(first[name].qdata, tensor.qdata)
            assert torch.equal(first[name].scale, second[name].scale)


def test_int4_values_are_two_to_a_byte() -> None:
    values = torch.arange(-8, 8, dtype=torch.int8).repeat(3, 1)
    packed = pack_int4(values)
    assert packed.shape == (3, 8)
    assert torch.equal(unpack_int4(packed), values)


def test_a_graph_is_run_by_the_backend_from_the_variants_own_files(plan_of: PlanOf) -> None:
    plan = plan_of("onnx")
    folder = build(plan, "onnx")
    before = sorted(folder.rglob("*"))
    figures, _ = measured(plan, VARIANTS["onnx"])
    assert figures.backend == "onnxruntime"
    assert sorted(folder.rglob("*")) == before
    assert {path.name for path in VARIANTS["onnx"].network_files(folder)} >= {"model.onnx"}


def test_int8_graphs_of_two_runtimes_hold_their_own_files_alone(plan_of: PlanOf) -> None:
    plan = plan_of("fp32", "onnx-int8", "openvino-int8")
    build(plan, "fp32")
    original, images = measured(plan, VARIANTS["fp32"])
    names = {}
    for name in ("onnx-int8", "openvino-int8"):
        folder = build(plan, name)
        figures, found = measured(plan, VARIANTS[name])
        assert figures.network_mb < original.network_mb
        assert 0 < np.abs(found.astype(float) - images).mean() < 6
        names[name] = {path.name for path in VARIANTS[name].network_files(folder)}
    assert names == {"onnx-int8": {"int8.onnx"}, "openvino-int8": {"openvino-int8.xml", "openvino-int8.bin"}}


def test_a_student_is_measured_with_its_own_steps(plan_of: PlanOf, version: Path, tmp_path: Path) -> None:
    settings = {"max_steps": 2, "batch_size": 2, "sample_steps": 1, "teacher_steps": 1, "optimizer": "adamw", "precision": "fp32"}
    settings |= {"validation_samples": 2, "sample_prompts": [], "threads": 1}
    (tmp_path / "distill.yaml").write_text(yaml.safe_dump(settings))
    dataset = write_tiny_dataset(tmp_path / "data", {"train": 8, "validation": 2})
    arguments = ["--config", str(tmp_path / "distill.yaml"), "--dataset", str(dataset), "--output", str(tmp_path / "student")]
    assert distill_steps([*arguments, "--init", str(version)]) == 0
    defaults = ModelDefaults(width=16, height=16, steps=1, guidance=1.0)
    student = Original(directory=tmp_path / "student" / "pipeline", digest="b" * 64, label="tiny-student/1", defaults=defaults)
    plan = plan_of("fp32", "distilled", student=student)
    run_sweep(plan)
    first, second = plan.row("fp32"), plan.row("distilled")
    assert first is not None and second is not None
    assert first.figures is not None and second.figures is not None, second.why
    assert (first.figures.steps, second.figures.steps, second.figures.guidance) == (2, 1, 1.0)
    assert second.images is not None
    assert np.load(second.images).shape == (4, 16, 16, 3)


def test_a_file_that_was_changed_is_found_before_it_is_loaded(plan_of: PlanOf) -> None:
    plan = plan_of("bf16")
    folder = build(plan, "bf16")
    with next((folder / PIPELINE / "network").glob("*.safetensors")).open("ab") as file:
        file.write(b"x")
    with pytest.raises(DamagedVariantError, match="a file was changed"):
        measured(plan, VARIANTS["bf16"])


def test_building_leaves_the_version_as_it_is_and_a_golden_image_of_its_own(plan_of: PlanOf) -> None:
    plan = plan_of("bf16")
    files = {path: path.read_bytes() for path in plan.original.directory.rglob("*") if path.is_file()}
    folder = build(plan, "bf16")
    assert {path: path.read_bytes() for path in plan.original.directory.rglob("*") if path.is_file()} == files
    golden = read_golden(folder / PIPELINE)
    assert golden is not None
    assert golden.distance(golden.render(load_text_to_image(folder / PIPELINE, "cpu"))) == 0


def test_a_directory_that_fails_half_way_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"), writing_directory(tmp_path / "variant") as folder:
        (folder / "half").write_bytes(b"x")
        raise OSError("full")
    assert not list(tmp_path.iterdir())


def test_linked_files_are_those_wanted(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "one.txt").write_text("1")
    (tmp_path / "a" / "two.txt").write_text("22")
    link_tree(tmp_path / "a", tmp_path / "c", lambda path: path.name != "two.txt")
    assert [path.name for path in (tmp_path / "c").rglob("*.txt")] == ["one.txt"]
    assert size_mb([tmp_path / "a" / "two.txt"]) == pytest.approx(2e-6)


def test_the_smallest_weights_are_zeroed() -> None:
    assert without_smallest(torch.tensor([[3.0, -0.1], [0.2, -4.0]]), 0.5).tolist() == [[3.0, 0.0], [0.0, -4.0]]
    assert torch.equal(without_smallest(torch.ones(3), 0.0), torch.ones(3))


def test_removing_units_that_repeat_others_changes_nothing() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(64, 4).repeat(1, 2)
    outgoing = torch.randn(3, 8)
    kept, weights = refitted(outgoing, (hidden.T @ hidden).double(), 4)
    assert len(kept) == 4
    unique = len({int(unit) % 4 for unit in kept})
    if unique == 4:
        assert torch.allclose(hidden[:, kept] @ weights.T, hidden @ outgoing.T, atol=1e-2)


def test_refitting_is_nearer_to_the_layer_than_leaving_units_out() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(256, 16) @ torch.randn(16, 32)
    outgoing = torch.randn(5, 32)
    kept, weights = refitted(outgoing, (hidden.T @ hidden).double(), 24)
    whole = hidden @ outgoing.T
    assert (hidden[:, kept] @ weights.T - whole).norm() < 0.1 * (hidden[:, kept] @ outgoing[:, kept].T - whole).norm()


def test_a_pruned_network_is_one_that_its_class_knows(plan_of: PlanOf) -> None:
    network = tiny_pipeline().network
    with recorded(network) as energies, torch.no_grad():
        network(torch.randn(2, 3, 16, 16), torch.tensor([500.0, 500.0]), torch.randn(2, 4, 32), torch.ones(2, 4).bool(), torch.randn(2, 32))
    smaller = pruned(network, energies, 3)
    assert smaller.config.mlp_ratio == 3
    assert blocks(smaller)[0][1].mlp[0].out_features == 3 * 16
    with recorded(network):
        pass
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_what_has_no_width_to_set_says_so(plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Other:
        components = {"unet": nn.Linear(2, 2)}  # noqa: RUF012 - read only

    monkeypatch.setattr("models.compression.pruning.load_text_to_image", lambda directory, device: Other())
    with pytest.raises(VariantError, match="Linear can't lose units"):
        VARIANTS["pruned-25"].build(plan_of("pruned-25"), tmp_path)
