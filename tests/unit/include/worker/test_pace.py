from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from include.worker.pace import NICE, Unhurried, at_low_priority, never


class Clock:
    """Advances by what is slept, for :meth:`Unhurried.go_on` asks it again and again."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.01
        return self.now


@pytest.mark.parametrize("rest", [1.0, 2.0])
def test_while_a_render_is_under_way_it_rests_in_proportion_to_what_it_did(rest: float) -> None:
    clock = Clock()
    work = Unhurried(lambda: True, rest=rest, clock=clock)
    assert work.go_on() and clock.now < 0.05, "nothing was done yet"
    for worked in (0.5, 1.0):
        clock.now += worked
        before = clock.now
        assert work.go_on()
        assert clock.now - before == pytest.approx(rest * worked, abs=0.1)


def test_nobody_renders_and_it_does_not_rest() -> None:
    clock = Clock()
    work = Unhurried(never, clock=clock)
    work.go_on()
    clock.now += 100
    assert work.go_on() and clock.now < 101


def test_a_rest_ends_with_the_last_render() -> None:
    renders, clock = [True] * 5, Clock()
    work = Unhurried(lambda: bool(renders and renders.pop()), clock=clock)
    work.go_on()
    clock.now += 100
    assert work.go_on() and clock.now < 101


def test_once_somebody_waits_it_rests_no_more() -> None:
    work = Unhurried(lambda: True, rest=1e6)
    assert work.go_on()
    timer = threading.Timer(0.05, work.hurry)
    timer.start()
    before = time.monotonic()
    assert not work.go_on() and not work.go_on()
    assert time.monotonic() - before < 10
    timer.join()


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no niceness of their own")
def test_a_call_at_low_priority_leaves_this_thread_as_it_is() -> None:
    before = niceness()
    assert at_low_priority(niceness) == max(before, NICE)
    assert niceness() == before


def test_what_a_call_at_low_priority_raises_is_raised_here() -> None:
    def fail(reason: str) -> None:
        raise ValueError(reason)

    with pytest.raises(ValueError, match="no room"):
        at_low_priority(fail, "no room")


def test_a_call_at_low_priority_does_not_keep_the_process_from_ending() -> None:
    lines = (
        "import threading, time",
        "from include.worker.pace import at_low_priority",
        "begun = threading.Event()",
        "work = lambda: (begun.set(), time.sleep(600))",
        "threading.Thread(target=at_low_priority, args=(work,), daemon=True).start()",
        "assert begun.wait(10)",
    )
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, timeout=60)
