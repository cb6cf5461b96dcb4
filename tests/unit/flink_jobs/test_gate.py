"""The gate between the scheduler's thread and that of the step before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from flink_jobs.gate import STALE_S, WINDOW, BatchGate, establish, gate_of, retire
from tests.support.waiting import wait_for

AT_ONCE, LONG = 0.0, 30.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(clock: Clock) -> BatchGate:
    return BatchGate(clock)


@pytest.fixture
def beside() -> Iterator[Callable[[BatchGate], Future[bool]]]:
    """Starts to wait at a gate in another thread, and returns once it waits there."""
    with ThreadPoolExecutor(1) as executor:

        def start(gate: BatchGate) -> Future[bool]:
            future = executor.submit(gate.passes, LONG)
            wait_for(lambda: gate._condition._waiters, 5, "somebody at the gate", interval=0.001)
            return future

        yield start


def fill(gate: BatchGate) -> None:
    assert all(gate.passes(AT_ONCE) for _ in range(WINDOW))


def test_an_open_gate_lets_through(gate: BatchGate) -> None:
    assert gate.passes(AT_ONCE)


def test_a_closed_gate_lets_one_through_when_patience_ends_and_says_so(gate: BatchGate) -> None:
    gate.publish(False)
    assert not gate.passes(0.01)


def test_whoever_waits_goes_on_when_it_opens(gate: BatchGate, beside: Callable[[BatchGate], Future[bool]]) -> None:
    gate.publish(False)
    waiting = beside(gate)
    assert not waiting.done()
    gate.publish(True)
    assert waiting.result(5)


def test_no_more_than_the_window_is_on_its_way_to_the_scheduler(gate: BatchGate) -> None:
    fill(gate)
    assert not gate.passes(AT_ONCE)
    gate.arrived()
    gate.arrived()
    assert gate.passes(AT_ONCE)
    assert not gate.passes(AT_ONCE)


def test_arrivals_wake_whoever_waits_for_the_window(gate: BatchGate, beside: Callable[[BatchGate], Future[bool]]) -> None:
    fill(gate)
    waiting = beside(gate)
    for _ in range(WINDOW // 2):
        gate.arrived()
    assert waiting.result(5)


def test_what_arrives_from_before_a_restore_widens_no_window(gate: BatchGate) -> None:
    for _ in range(3):
        gate.arrived()
    fill(gate)
    assert not gate.passes(AT_ONCE)


def test_a_closed_gate_of_a_silent_scheduler_is_open(gate: BatchGate, clock: Clock) -> None:
    gate.publish(False)
    clock.now += STALE_S
    assert not gate.passes(AT_ONCE)
    clock.now += 0.1
    assert gate.passes(AT_ONCE)
    gate.publish(False)
    assert not gate.passes(AT_ONCE)


def test_a_new_attempt_starts_with_an_open_gate_and_frees_whoever_waits_at_the_old_one(
    beside: Callable[[BatchGate], Future[bool]],
) -> None:
    old = establish("test.cell-0")
    old.publish(False)
    waiting = beside(old)
    new = establish("test.cell-0")
    assert waiting.result(5)
    assert gate_of("test.cell-0") is new
    assert new.passes(AT_ONCE)
    retire("test.cell-0", new)


def test_an_attempt_that_ends_late_leaves_its_successors_gate(beside: Callable[[BatchGate], Future[bool]]) -> None:
    old, new = establish("test.cell-0"), establish("test.cell-0")
    new.publish(False)
    waiting = beside(new)
    retire("test.cell-0", old)
    assert gate_of("test.cell-0") is new
    assert not waiting.done()
    retire("test.cell-0", new)
    assert waiting.result(5)
    assert gate_of("test.cell-0") is None


def test_gates_of_different_cells_are_apart() -> None:
    first, second = establish("test.cell-0"), establish("test.cell-1")
    first.publish(False)
    assert second.passes(AT_ONCE)
    retire("test.cell-0", first)
    retire("test.cell-1", second)
