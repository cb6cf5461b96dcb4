from __future__ import annotations

from pathlib import Path

import pytest

from include.registry.files import list_files
from include.worker.acceleration import BackendOptionError, accelerate
from include.worker.backends import ModelBackends, Tuning, digest_of, machine_key, own_size
from include.worker.parity import Deviation, render
from include.worker.pipeline import Pipeline
from include.worker.tuning import measure, refusal
from include.worker.verdicts import AUTO, EAGER, Measured, Verdict, Verdicts
from models.backends.attached import attachment_of
from models.backends.base import REDUCED
from models.pipelines.adapters import AdaptablePipeline, NetworkLora
from tests.support.device import DEVICE
from tests.support.tiny_pipeline import SIDE, tiny_pipeline, write_tiny_pipeline

FAST = "torchao-int8"  #: it is ready at once, and gives eager's own images for layers as small as these


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_pipeline(tmp_path_factory.mktemp("model"))


def load(directory: Path, device: str) -> Pipeline:
    pipeline = tiny_pipeline()
    return AdaptablePipeline(pipeline, NetworkLora(pipeline.network))


def known(folder: Path, directory: Path, names: list[str]) -> Verdict:
    """What a measurement of a model like it has found, and left in the folder."""
    verdicts = Verdicts(folder / digest_of(directory))
    verdicts.write(measure(tiny_pipeline(), verdicts.folder, SIDE, SIDE, names))
    return verdicts.read()[0]


def test_a_new_model_runs_eagerly_and_is_measured(directory: Path, tmp_path: Path) -> None:
    asked: list[Tuning] = []
    backends = ModelBackends(tmp_path, AUTO, load, asked.append)
    pipeline = backends.load(directory, DEVICE)
    render(pipeline, [0], SIDE, SIDE)
    assert (pipeline.backend, backends.name_for(pipeline, SIDE, SIDE)) == (EAGER, EAGER)
    digest = list_files(directory).digest
    assert set(asked) == {Tuning(directory=directory, folder=tmp_path / digest, digest=digest, width=SIDE, height=SIDE)}


def test_a_model_that_was_measured_runs_on_what_was_found(directory: Path, tmp_path: Path) -> None:
    known(tmp_path, directory, [FAST])
    asked: list[Tuning] = []
    backends = ModelBackends(tmp_path, FAST, load, asked.append)
    pipeline = backends.load(directory, DEVICE)
    assert backends.name_for(pipeline, SIDE, SIDE) == FAST
    render(pipeline, [0, 1], SIDE, SIDE)
    assert pipeline.backend == FAST
    render(pipeline, [0], 2 * SIDE, SIDE)
    assert pipeline.backend == EAGER
    assert not asked
    assert backends.name_for(pipeline, 2 * SIDE, SIDE) == EAGER
    assert [(tuning.width, tuning.height) for tuning in asked] == [(2 * SIDE, SIDE)]


def test_what_was_found_wrong_is_not_used_even_when_it_is_asked_for(directory: Path, tmp_path: Path) -> None:
    found = known(tmp_path, directory, [FAST])
    refused = found.model_copy(update={"backends": {FAST: Measured(refused="its images differ")}})
    Verdicts(tmp_path / digest_of(directory)).write(refused)
    backends = ModelBackends(tmp_path, FAST, load)
    pipeline = backends.load(directory, DEVICE)
    render(pipeline, [0], SIDE, SIDE)
    assert pipeline.backend == EAGER


def test_a_backend_that_failed_is_named_no_more(directory: Path, tmp_path: Path) -> None:
    known(tmp_path, directory, [FAST])
    backends = ModelBackends(tmp_path, FAST, load)
    pipeline = backends.load(directory, DEVICE)
    attachment = attachment_of(pipeline)
    assert attachment is not None
    attachment.failed[FAST] = "RuntimeError: gone"
    assert backends.name_for(pipeline, SIDE, SIDE) == EAGER


def test_where_eager_is_wanted_nothing_is_touched(directory: Path, tmp_path: Path) -> None:
    pipeline = ModelBackends(tmp_path, EAGER, load, lambda tuning: pytest.fail("measured")).load(directory, DEVICE)
    assert attachment_of(pipeline) is None


def test_a_pipeline_without_a_denoiser_is_left_alone(directory: Path, tmp_path: Path) -> None:
    class Other:
        backend = "torch-eager"

    other = Other()
    backends = ModelBackends(tmp_path, AUTO, lambda directory, device: other, lambda tuning: pytest.fail("measured"))
    assert backends.load(directory, DEVICE) is other
    assert backends.name_for(other, 8, 8) == "torch-eager"


def test_the_fetcher_s_directory_names_the_digest(tmp_path: Path) -> None:
    assert digest_of(tmp_path / ("a" * 64)) == "a" * 64


def test_a_model_s_own_size() -> None:
    assert own_size(tiny_pipeline()) == (SIDE, SIDE)


def test_machines_with_other_threads_are_apart() -> None:
    assert machine_key("cpu", 1) == machine_key("cpu", 1) != machine_key("cpu", 2)


@pytest.mark.parametrize(("wanted", "reason"), [("tpu", "use auto or one of"), ("tensorrt", "backend tensorrt: needs a CUDA GPU")])
def test_an_option_that_can_not_be_met_is_said_at_the_start(wanted: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(BackendOptionError, match=reason):
        accelerate(tmp_path, wanted=wanted, device="cpu", threads=1, loader=load)


def test_measuring_refuses_what_fails_and_goes_on(tmp_path: Path) -> None:
    verdict = measure(tiny_pipeline(), tmp_path, SIDE, SIDE, [FAST, "deepspeed"])
    assert verdict.backends[EAGER].refused is None
    assert verdict.backends[FAST].refused is None
    assert verdict.backends[FAST].step_s
    assert "deepspeed" in str(verdict.backends["deepspeed"].refused)


def off(maximum: float = 0.0, mean: float = 0.0, average: float | None = None) -> Deviation:
    return Deviation(max=maximum, mean=mean, average=mean if average is None else average)


@pytest.mark.parametrize(
    ("from_eager", "finished", "in_batch", "reason"),
    [
        (off(24, 2.0), off(255, 9.0, average=2.0), off(2, 0.1), None),
        (off(25), off(), off(), "after a step"),
        (off(24, 2.1, average=0.1), off(), off(), "after a step"),
        (off(), off(10, 2.1), off(), "finished images"),
        (off(), off(), off(3), "batched images"),
    ],
)
def test_a_step_counts_by_its_worst_image_and_finished_ones_by_all(
    from_eager: Deviation, finished: Deviation, in_batch: Deviation, reason: str | None
) -> None:
    found = refusal(REDUCED, from_eager, finished, in_batch)
    assert found is None if reason is None else reason in str(found)
