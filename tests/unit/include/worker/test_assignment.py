from __future__ import annotations

import pytest

from include.contracts.dispatch import Revoke
from include.contracts.errors import ReasonCode
from include.contracts.workers import Credit, Failed
from include.worker.assignment import REPORT_EVERY_S, AbandonedError, Assignment
from tests.support.leases import lease_of, render_task
from tests.unit.include.worker.conftest import Bench


@pytest.fixture
def assignment(bench: Bench) -> Assignment:
    return bench.assignment(lease_of(render_task("r-1"), render_task("r-2"), render_task("r-3"), expires_at=bench.now + 30))


def test_open_is_what_is_neither_answered_nor_cancelled(bench: Bench, assignment: Assignment) -> None:
    bench.leases.revoke(Revoke(lease_id=assignment.lease.lease_id, worker_id="worker-0", pool="standard", request_ids=("r-2",)))
    assignment.fail(assignment.work["r-3"], ReasonCode.RENDER_FAILED, "no", retryable=True)
    assert [work.task.request_id for work in assignment.open] == ["r-1"]


def test_each_request_is_answered_once(bench: Bench, assignment: Assignment) -> None:
    for message in ("first", "second"):
        assignment.fail_open(ReasonCode.RENDER_FAILED, message, retryable=True)
    said = [message for message in bench.sent.messages if isinstance(message, Failed)]
    assert [failed.reason.message for failed in said] == ["first"] * 3


def test_an_expired_lease_is_lost_and_says_so_once(bench: Bench, assignment: Assignment) -> None:
    assignment.check()
    bench.now += 31
    for _ in range(2):
        assignment.check()
    assert assignment.lost and assignment.open == []
    assert [failed.reason.code for failed in bench.failed.values()] == [ReasonCode.LEASE_EXPIRED] * 3


def test_a_worker_that_ends_leaves_it_without_a_word(bench: Bench, assignment: Assignment) -> None:
    bench.abandon.set()
    with pytest.raises(AbandonedError):
        assignment.check()
    assert not bench.failed


def test_a_finished_lease_frees_its_slot_once(bench: Bench, assignment: Assignment) -> None:
    for _ in range(2):
        assignment.finish()
    assert [message.held for message in bench.sent.messages if isinstance(message, Credit)] == [()]


def test_progress_is_due_a_few_times_a_render_and_not_too_often(assignment: Assignment) -> None:
    assert assignment.is_due(1, 50)
    assignment.report(1, 50)
    assert not assignment.is_due(10, 50)
    assignment.reported_at -= REPORT_EVERY_S
    assert assignment.is_due(20, 50) and not assignment.is_due(21, 50)
    assignment.reported_at -= assignment.lease.lease_s / 4
    assert assignment.is_due(21, 50)
