"""Leases for models that are not what they should be, and a worker that goes on after each."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from include.config import Settings
from include.contracts.dispatch import ModelRef
from include.contracts.errors import ReasonCode
from include.contracts.workers import Completed, Failed
from include.registry.files import LIST_NAME
from tests.integration.worker.conftest import Router, Workers
from tests.support.leases import render_task
from tests.support.registry import artifact_file, register

WEIGHTS = "network/diffusion_pytorch_model.safetensors"


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def lead_outside(path: Path) -> None:
    path.write_text(json.dumps({"files": {"../../escape.json": {"sha256": "0" * 64, "size": 1}}}))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (WEIGHTS, flip, "does not have the sha256"),
        (WEIGHTS, lambda path: os.truncate(path, 1000), "shorter than its"),
        (WEIGHTS, lambda path: path.unlink(), "has no file"),
        (LIST_NAME, lead_outside, "not a plain relative path"),
    ],
    ids=["corrupt", "truncated", "missing", "traversal"],
)
def test_damaged_files_fail_the_lease_for_good(
    workers: Workers,
    router: Router,
    model: ModelRef,
    service_settings: Settings,
    name: str,
    damage: Callable[[Path], None],
    message: str,
) -> None:
    damage(artifact_file(service_settings.home, model, name))
    assert_refused(workers, router, model, message)


def test_a_wrong_digest_fails_the_lease_for_good(workers: Workers, router: Router, model: ModelRef) -> None:
    assert_refused(workers, router, model.model_copy(update={"digest": "0" * 64}), "the version says 000000000000")


def test_an_unknown_version_fails_the_lease_for_good(workers: Workers, router: Router, model: ModelRef) -> None:
    unknown = model.model_copy(update={"source": "mlflow-artifacts:/0/no-such-run/artifacts/model"})
    assert_refused(workers, router, unknown, "has no file files.json")


def test_weights_that_are_registered_but_can_not_be_loaded(
    workers: Workers, router: Router, tiny_dir: Path, mlflow_server: str, tmp_path: Path
) -> None:
    """The digest is right, the content is not."""
    bad = tmp_path / "bad"
    for path in tiny_dir.rglob("*"):
        if path.is_file():
            target = bad / path.relative_to(tiny_dir)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    (bad / WEIGHTS).write_bytes(b"\xff" * 5000)
    assert_refused(workers, router, register(bad, f"bad-{uuid.uuid4().hex[:8]}", mlflow_server), "can't be served")


def test_a_pipeline_of_another_class_is_not_loaded(workers: Workers, router: Router, mlflow_server: str, tmp_path: Path) -> None:
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "model_index.json").write_text(json.dumps({"_class_name": "os.system"}))
    ref = register(tmp_path / "evil", f"evil-{uuid.uuid4().hex[:8]}", mlflow_server)
    assert_refused(workers, router, ref, "os.system")


def test_a_registry_that_is_away_is_worth_another_try(workers: Workers, router: Router, model: ModelRef) -> None:
    workers.settings = workers.settings.model_copy(update={"mlflow_uri": "http://127.0.0.1:9"})
    workers.start()
    (outcome,) = router.outcomes(router.lease(router.hello(), render_task(), model=model))
    assert isinstance(outcome, Failed) and outcome.retryable
    assert outcome.reason.code == ReasonCode.MODEL_LOAD_FAILED and "http://127.0.0.1:9" in outcome.reason.message


def assert_refused(workers: Workers, router: Router, bad: ModelRef, message: str) -> None:
    """Every request of the lease fails with this reason, and no retry is asked for; the worker then serves on."""
    worker = workers.start()
    lease = router.lease(router.hello(), render_task(), render_task(), model=bad)
    for outcome in router.outcomes(lease):
        assert isinstance(outcome, Failed) and not outcome.retryable
        assert outcome.reason.code == ReasonCode.MODEL_LOAD_FAILED and message in outcome.reason.message
    router.wait_free("worker-0")
    assert worker.thread.is_alive()
    assert not any(isinstance(outcome, Completed) for outcome in router.outcomes(lease))
