"""Whatever of the router is killed or moved: every accepted request ends, in one way, once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from include.contracts import topics as names
from tests.integration.router.conftest import RouterJob, request
from tests.integration.router.stub_worker import StubWorker, hold


@pytest.fixture
def worker(router: RouterJob) -> Iterator[StubWorker]:
    """Holds what it gets until it is released."""
    with StubWorker(router.settings, "worker-0", slots=4, max_batch=2, answer=hold) as worker:
        yield worker


def in_every_phase(router: RouterJob) -> list[str]:
    """Requests that are leased, queued, and too new for the last checkpoint."""
    first = router.send(names.REALTIME, *(request(tenant=f"t{index % 3}") for index in range(15)))
    router.wait_state(first, "Queued")
    router.wait_any_processing()
    router.wait_checkpoint()
    return first + router.send(names.BATCH, *(request() for _ in range(5)))


def test_a_killed_taskmanager_loses_and_doubles_nothing(router: RouterJob, worker: StubWorker) -> None:
    sent = in_every_phase(router)
    router.cluster.kill_taskmanager(replace=False)
    sent += router.send(names.REALTIME, *(request() for _ in range(5)))
    worker.release()
    router.cluster.taskmanager.restart()
    router.wait_completed(sent, timeout=90)
    assert not router.letters()
    assert router.restarts() >= 1


def test_a_job_resubmitted_from_its_checkpoint_goes_on(router: RouterJob, worker: StubWorker) -> None:
    sent = in_every_phase(router)
    router.wait_state(sent, "Queued")
    router.cluster.cancel(router.job_id)
    sent += router.send(names.REALTIME, *(request() for _ in range(5)))
    worker.release()
    router.submit(restore=router.checkpoints()[0])
    router.wait_completed(sent, timeout=90)
    assert not router.letters()
    assert router.restarts() == 0
