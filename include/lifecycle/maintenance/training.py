"""Directories of training and evaluation runs, and the checkpoints in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from include.lifecycle import jobs
from include.lifecycle.maintenance.ancestry import JOB_RUNS
from include.lifecycle.maintenance.context import Context
from include.lifecycle.maintenance.directories import DirectoryKeeper
from include.lifecycle.maintenance.files import age_of, remove_tree, size_of
from include.lifecycle.maintenance.items import Item, Keeper, StillNeededError, judged
from include.lifecycle.training import runs_root
from models.training.lock import LOCK, OWNER, RunLock, RunTakenError

CHECKPOINTS = "checkpoints"  #: as in models.training.run, whose import loads PyTorch
#: Written by whoever asks whether a trainer is there, so their time says nothing.
TIMELESS = frozenset({LOCK, OWNER, "job.lock"})


class RunKeeper(DirectoryKeeper):
    """Whole directories."""

    kind = "training run"

    def __init__(self, context: Context) -> None:
        super().__init__(context, runs_root(context.settings))

    def items(self) -> Iterator[Item]:
        for path in sorted(self.root.glob("[!.]*")):
            if path.is_dir():
                yield self.judge(path)

    def remove(self, item: Item) -> None:
        remove_locked(self.root / item.name, self.root / item.name, self.root)

    def judge(self, path: Path) -> Item:
        limits = self.context.limits
        return judged(
            limits, self.kind, path.name, size_of(path), age_of(path, besides=TIMELESS), limits.run_days, needed_by(self.context, path)
        )


class CheckpointKeeper(Keeper):
    """Checkpoints of runs that ended well: a run that failed may still go on from its own."""

    kind = "checkpoints"

    def __init__(self, context: Context) -> None:
        self.context = context
        self.root = runs_root(context.settings)

    def items(self) -> Iterator[Item]:
        for path in sorted(self.root.glob(f"[!.]*/{CHECKPOINTS}")):
            yield self._judged(path)

    def item(self, name: str) -> Item | None:
        path = self.root / name / CHECKPOINTS
        return self._judged(path) if path.is_dir() else None

    def remove(self, item: Item) -> None:
        remove_locked(self.root / item.name, self.root / item.name / CHECKPOINTS, self.root)

    def _judged(self, path: Path) -> Item:
        limits, run = self.context.limits, path.parent
        needed = needed_by(self.context, run) or self._unfinished(run)
        return judged(limits, self.kind, run.name, size_of(path), age_of(path), limits.checkpoint_days, needed)

    @staticmethod
    def _unfinished(run: Path) -> str:
        ended = jobs.state(run)
        return "" if ended is jobs.JobState.SUCCEEDED else f"its job is {ended}, so it may go on from them"


def needed_by(context: Context, run: Path) -> str:
    return JOB_RUNS if jobs.state(run) is jobs.JobState.RUNNING else context.needed().directories.get(run, "")


def remove_locked(run: Path, what: Path, trash: Path) -> None:
    """Removes it while no trainer can begin there."""
    try:
        with RunLock(run):
            remove_tree(what, trash)
    except RunTakenError as error:
        raise StillNeededError(str(error)) from error
