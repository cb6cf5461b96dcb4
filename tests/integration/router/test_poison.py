"""A message on which the scheduler fails each time does not hold up the others for ever."""

from __future__ import annotations

from pathlib import Path

from include.config import Settings
from include.contracts import topics as names
from include.contracts.dead_letters import DeadLetter
from include.contracts.errors import ReasonCode
from tests.integration.router import faulty_router
from tests.integration.router.conftest import request, routing
from tests.integration.router.stub_worker import StubWorker
from tests.support.flink_cluster import FlinkCluster


def test_it_is_set_aside_and_told_and_the_others_complete(flink_cluster: FlinkCluster, topics: Settings) -> None:
    with routing(flink_cluster, topics, script=Path(faulty_router.__file__)) as job, StubWorker(job.settings, "worker-0"):
        poison = request(prompt=faulty_router.PROMPT)
        before = job.send(names.REALTIME, request(), request())
        job.send(names.REALTIME, poison)
        after = job.send(names.REALTIME, request(), request())
        job.wait_completed([*before, *after], timeout=90)
        job.wait_state([poison["request_id"]], "Refused")
        (letter,) = [DeadLetter.model_validate(letter) for letter in job.letters()]
        assert (letter.request_id, letter.reason.code) == (poison["request_id"], ReasonCode.SCHEDULER_FAILED)
        assert job.restarts() == 2
