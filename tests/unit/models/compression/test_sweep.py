"""A sweep leaves a row for each variant, whatever happens to the processes that build and measure them."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
from collections.abc import Callable

import psutil
import pytest

from models.compression.directories import PART, is_no_room
from models.compression.plan import NO_ROOM, State, SweepPlan
from tests.support.waiting import wait_for

PlanOf = Callable[..., SweepPlan]


def start(plan: SweepPlan, limit: int | None = None) -> subprocess.Popen[str]:
    """The sweep as a process; no file of it may be larger than ``limit`` bytes."""
    low, high = (limit if limit is not None else resource.RLIM_INFINITY), resource.RLIM_INFINITY
    command = plan.command() if limit is None else ["prlimit", f"--fsize={low}:{high if high >= 0 else 'unlimited'}", *plan.command()]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "PYTHONPATH": "."})


def run(plan: SweepPlan, limit: int | None = None) -> tuple[int, str]:
    process = start(plan, limit)
    printed, _ = process.communicate(timeout=300)
    return process.returncode, printed


def test_rows_are_left_and_known_to_the_next_sweep(plan_of: PlanOf) -> None:
    plan = plan_of("fp32", "distilled")
    code, printed = run(plan)
    assert code == 0, printed
    first, second = plan.row("fp32"), plan.row("distilled")
    assert first is not None and second is not None
    assert (first.state, first.known, second.state) == (State.MEASURED, False, State.NOT_AVAILABLE)
    assert second.why == "tiny has no few-step student"
    assert "1 of 2: fp32 measured" in printed
    again = plan_of("fp32", directory="again")
    assert run(again)[0] == 0
    known = again.row("fp32")
    assert known is not None
    assert (known.known, known.figures) == (True, first.figures)


def test_a_process_that_is_killed_costs_its_variant_a_row(plan_of: PlanOf) -> None:
    plan = plan_of("fp32", "distilled")
    sweep = start(plan)

    def part() -> bool:
        return any((plan.home / "measured").glob(f"{PART}*"))

    wait_for(part, 120, "the process that measures to be at work", interval=0.001)
    busy = [child for child in psutil.Process(sweep.pid).children(recursive=True) if not child.children() and working(child)]
    busy[-1].send_signal(signal.SIGKILL)
    sweep.communicate(timeout=300)
    row = plan.row("fp32")
    assert row is not None
    assert row.state is State.FAILED
    assert "SIGKILL, as when memory has run out" in row.why
    assert plan.row("distilled") is not None
    assert not part()


def working(process: psutil.Process) -> bool:
    """Whether it is a child of the fork server, not one of multiprocessing's helpers."""
    parent = process.parent()
    return parent is not None and "forkserver" in " ".join(parent.cmdline())


def test_a_full_disk_ends_the_sweep_and_leaves_nothing_half_written(plan_of: PlanOf) -> None:
    plan = plan_of("bf16")
    code, printed = run(plan, limit=20_000)
    assert code == NO_ROOM, printed
    assert "the disk, or the quota, is full" in printed
    assert plan.row("bf16") is None
    assert not any(path.is_file() for path in plan.home.rglob("*"))


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (ValueError("Error while serializing: I/O error: No space left on device (os error 28)"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (ValueError("os error"), False),
    ],
)
def test_a_full_disk_is_told_from_other_errors(error: Exception, full: bool) -> None:
    assert is_no_room(error) is full
