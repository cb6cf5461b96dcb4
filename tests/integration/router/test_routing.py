"""Requests of both topics come back as events and leases, bad ones as dead letters with their bytes, and the job never restarts."""

from __future__ import annotations

from include.contracts import topics as names
from tests.integration.router.conftest import RouterJob, request
from tests.integration.router.stub_worker import StubWorker


def test_requests_of_both_topics_complete(router: RouterJob) -> None:
    with_worker = StubWorker(router.settings, "worker-0", max_batch=4).start()
    realtime = router.send(names.REALTIME, *(request(tenant=f"t{index % 3}", tier="pro") for index in range(20)))
    batch = router.send(names.BATCH, *(request(tenant=f"t{index % 3}") for index in range(20)))
    router.wait_completed(realtime + batch)
    with_worker.stop()
    assert router.restarts() == 0
