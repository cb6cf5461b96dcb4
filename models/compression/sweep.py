"""Builds and measures the variants of a plan, one after the other and each alone, so that none disturbs another's times.

    python -m models.compression.sweep DIRECTORY

``DIRECTORY`` holds the plan, ``sweep.json``; a row is left in ``rows`` as each variant is done. What is there already is not done again.
The libraries are imported once, by a server from which a process is forked for each build and for each measurement; nothing of a model is
ever loaded in the server. So a process that crashes, or is killed for its memory, costs its variant a row that says so, and no more.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.compression.directories import PART, RECORD
from models.compression.plan import FIGURES, IMAGES, NO_ROOM, UNFIT, Figures, Row, State, SweepPlan

CHILDREN = "models.compression.children"


class DiskFullError(OSError):
    """There is no room for a variant. What was finished before stays; nothing half written does."""


class ChildFailedError(Exception):
    """A process did not do what it was started for; the message says why."""


class UnfitError(ChildFailedError):
    """This machine, or this model, can't have the variant."""


def run_sweep(plan: SweepPlan) -> None:
    """Raises :class:`DiskFullError`; everything else that can go wrong with a variant is in its row."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([CHILDREN])
    for number, name in enumerate(plan.variants, 1):
        if plan.row(name) is not None:
            continue
        began = time.monotonic()
        print(f"{number} of {len(plan.variants)}: {name} begins", flush=True)
        row = _row(context, plan, name)
        write_row(plan, row)
        print(f"{number} of {len(plan.variants)}: {name} {said(row)}, after {time.monotonic() - began:.1f} s", flush=True)


def said(row: Row) -> str:
    """A row in words."""
    if row.figures is None:
        return f"{row.state}: {row.why}"
    before = " by an earlier sweep" if row.known else ""
    return f"measured{before}: {1000 * row.figures.p50_s:.0f} ms an image, network {row.figures.network_mb:.1f} MB"


def _row(context: Any, plan: SweepPlan, name: str) -> Row:
    try:
        known = None if plan.again else _known(plan, name)
        if known is not None:
            return known
        if plan.again or not (plan.built_directory(name) / RECORD).is_file():
            _run(context, "build", plan, name)
        _run(context, "measure", plan, name)
    except UnfitError as error:
        return Row(variant=name, state=State.NOT_AVAILABLE, why=str(error))
    except ChildFailedError as error:
        return Row(variant=name, state=State.FAILED, why=str(error))
    found = _known(plan, name)
    if found is None:
        return Row(variant=name, state=State.FAILED, why="the process that measured it left no figures")
    return found.model_copy(update={"known": False})


def _known(plan: SweepPlan, name: str) -> Row | None:
    """What was measured of the same files, in the same way, on a machine like this one."""
    folder = plan.measured_directory(name)
    if not ((folder / RECORD).is_file() and (plan.built_directory(name) / RECORD).is_file()):
        return None
    figures = Figures.model_validate_json((folder / FIGURES).read_bytes())
    return Row(variant=name, state=State.MEASURED, figures=figures, built=plan.built_directory(name), images=folder / IMAGES, known=True)


def _run(context: Any, task: str, plan: SweepPlan, name: str) -> None:
    """Raises :class:`ChildFailedError` or :class:`DiskFullError`."""
    reasons = plan.directory / f"{name}.why"
    reasons.unlink(missing_ok=True)
    process = context.Process(target=_child, args=(task, plan.model_dump_json(), name, str(reasons)), name=f"{task} {name}")
    process.start()
    process.join(plan.timeout_s)
    if process.exitcode is None:
        process.kill()
        process.join()
        _remove_parts(plan)
        raise ChildFailedError(f"it took longer than {plan.timeout_s:g} s to {task}")
    if process.exitcode:
        _remove_parts(plan)
        _explain(process.exitcode, task, plan, reasons)


def _child(task: str, plan_json: str, name: str, reasons: str) -> None:
    from models.compression import children  # imported already, by the server that this process was forked from

    {"build": children.build, "measure": children.measure}[task](plan_json, name, reasons)


def _explain(code: int, task: str, plan: SweepPlan, reasons: Path) -> None:
    if code == NO_ROOM:
        raise DiskFullError(
            f"{plan.home}: the disk, or the quota, is full, so there is no room to {task} a variant; make room and start the sweep again: "
            "what is finished is kept"
        )
    if code < 0:
        number = signal.Signals(-code)
        hint = ", as when memory has run out" if number is signal.SIGKILL else ""
        raise ChildFailedError(f"the process that was to {task} it was ended by {number.name}{hint}")
    why = reasons.read_text(encoding="utf-8") if reasons.is_file() else f"the process that was to {task} it ended with code {code}"
    raise UnfitError(why) if code == UNFIT else ChildFailedError(why)


def _remove_parts(plan: SweepPlan) -> None:
    """What processes that were killed have left half written."""
    for place in (plan.built_directory("any").parent, plan.measured_directory("any").parent):
        for path in place.glob(f"{PART}*"):
            shutil.rmtree(path, ignore_errors=True)


def write_row(plan: SweepPlan, row: Row) -> None:
    """Whole or not at all: tasks are waiting for it."""
    path = plan.row_path(row.variant)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(row.model_dump_json(indent=1), encoding="utf-8")
    part.replace(path)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="of the sweep; holds its plan, sweep.json")
    plan = SweepPlan.read(parser.parse_args(arguments).directory)
    _remove_parts(plan)
    try:
        run_sweep(plan)
    except DiskFullError as error:
        print(error, flush=True)
        return NO_ROOM
    return 0


if __name__ == "__main__":
    sys.exit(main())
