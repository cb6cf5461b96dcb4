"""The steps of ``maintain_platform``: make a plan, show it, and remove what it lists."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from include.config import Settings
from include.lifecycle.maintenance.archive import ArchiveKeeper
from include.lifecycle.maintenance.caches import EncodedKeeper, HalfRemovedKeeper, ModelCacheKeeper, VariantKeeper
from include.lifecycle.maintenance.context import Context, for_planning, for_removal
from include.lifecycle.maintenance.datasets import DatasetKeeper, PreparationKeeper
from include.lifecycle.maintenance.items import Item, Keeper, Plan, StillNeededError
from include.lifecycle.maintenance.limits import Limits
from include.lifecycle.maintenance.objects import ImageKeeper, ParkedKeeper, PreviewKeeper, ResultEntryKeeper
from include.lifecycle.maintenance.page import log_lines, page, summary
from include.lifecycle.maintenance.registry import ArtifactKeeper, VersionKeeper
from include.lifecycle.maintenance.topics import TopicKeeper
from include.lifecycle.maintenance.training import CheckpointKeeper, RunKeeper
from include.lifecycle.tracking import client_of, close_run, open_run

EXPERIMENT = "maintenance"
PLAN, PAGE, REMOVED = "plan.json", "plan.html", "removed.json"
PROGRESS_S = 10.0
Say = Callable[[str], None]

#: In the order of removal: what others hold goes after what holds it.
KEEPERS: tuple[Callable[[Context], Keeper], ...] = (
    HalfRemovedKeeper,
    VersionKeeper,
    ArtifactKeeper,
    CheckpointKeeper,
    RunKeeper,
    DatasetKeeper,
    PreparationKeeper,
    ModelCacheKeeper,
    EncodedKeeper,
    VariantKeeper,
    PreviewKeeper,
    ParkedKeeper,
    ResultEntryKeeper,
    ImageKeeper,
    ArchiveKeeper,
    TopicKeeper,
)


class RemovalError(RuntimeError):
    """Some things could not be removed; the message says which and why. The rest was."""


def make_plan(settings: Settings, params: Mapping[str, Any], key: str, say: Say = print) -> str:
    """Plans, shows the plan in the log and in MLflow, and returns the id of its run there.

    :param params: a form's fields; with ``plan`` set, that earlier plan is taken as it is
    :param key: of the MLflow run, so that a repeated task goes on in it

    Raises :class:`ValueError` for a limit out of range, :class:`LookupError` where there is no such earlier plan, and what MLflow's
    clients raise where it can't be reached: without knowing what champions need nothing is planned.
    """
    client = client_of(settings)
    if params.get("plan"):
        plan, run_id = read_plan(client, params["plan"]), str(params["plan"])
    else:
        plan = plan_of(for_planning(settings, Limits.of(params)))
        run_id = open_run(client, EXPERIMENT, key, summary(plan))
        _log_plan(client, run_id, plan)
    for line in log_lines(plan):
        say(line)
    return run_id


def plan_of(context: Context, keepers: Iterable[Callable[[Context], Keeper]] = KEEPERS) -> Plan:
    """What every keeper finds. One that can't look is a problem of the plan, and removes nothing."""
    items: list[Item] = []
    problems = []
    for make in keepers:
        try:
            items += make(context).items()
        except Exception as error:  # a broker or a store that is away must not keep the rest from being looked after
            problems.append(f"{make.__name__}: {error}")  # type: ignore[attr-defined]
    going_first = sorted(items, key=lambda item: (not item.goes, item.kind, -item.bytes))
    return Plan(made_at=time.time(), limits=context.limits, items=tuple(going_first), problems=tuple(problems))


def apply_plan(settings: Settings, run_id: str, say: Say = print) -> dict[str, int]:
    """Removes what the plan of the run lists, and nothing else; what became needed since, or changed its verdict, stays.

    Returns the number of things by what became of them. Repeating it after a crash goes on with what is left.

    Raises :class:`RemovalError` where something could not be removed, and :class:`LookupError` where there is no such plan.
    """
    client = client_of(settings)
    plan = read_plan(client, run_id)
    context = for_removal(settings, plan.limits)
    outcomes = remove_all(plan, [make(context) for make in KEEPERS], say)
    client.log_dict(run_id, [{"what": f"{item.kind} {item.name}", "outcome": outcome} for item, outcome in outcomes], REMOVED)
    failed = [f"{item.kind} {item.name}: {outcome}" for item, outcome in outcomes if outcome.startswith("failed")]
    close_run(client, run_id, failed=bool(failed))
    if failed:
        raise RemovalError("; ".join(failed[:20]))
    return dict(Counter(outcome.partition(":")[0] for _, outcome in outcomes))


def remove_all(plan: Plan, keepers: Iterable[Keeper], say: Say) -> list[tuple[Item, str]]:
    """Each thing that goes, with what became of it: ``removed``, ``gone already``, ``stays: WHY`` or ``failed: WHY``."""
    outcomes: list[tuple[Item, str]] = []
    said = time.monotonic()
    for keeper in keepers:
        for item in (item for item in plan.going if item.kind == keeper.kind):
            outcome = _removed(keeper, item)
            outcomes.append((item, outcome))
            if outcome != "removed" or time.monotonic() - said > PROGRESS_S:
                said = time.monotonic()
                say(f"{len(outcomes)} of {len(plan.going)}: {item.kind} {item.name}: {outcome}")
    return outcomes


def _removed(keeper: Keeper, item: Item) -> str:
    try:
        now = keeper.item(item.name)
        if now is None:
            return "gone already"
        if not now.goes:
            return f"stays: {now.why}"
        keeper.remove(now)
    except StillNeededError as error:
        return f"stays: {error}"
    except Exception as error:  # one thing that can't be removed must not keep the others
        return f"failed: {error}"
    return "removed"


def read_plan(client: MlflowClient, run_id: str) -> Plan:
    """Raises :class:`LookupError` where the run has none."""
    with TemporaryDirectory() as folder:
        try:
            path = client.download_artifacts(run_id, PLAN, folder)
        except (MlflowException, OSError) as error:
            raise LookupError(
                f"plan: there is no plan in the MLflow run {run_id}; give the id of a run of experiment {EXPERIMENT}"
            ) from error
        return Plan.model_validate_json(Path(path).read_text(encoding="utf-8"))


def _log_plan(client: MlflowClient, run_id: str, plan: Plan) -> None:
    client.log_text(run_id, json.dumps(plan.model_dump(mode="json"), indent=1), PLAN)
    client.log_text(run_id, page(plan), PAGE)
    client.log_metric(run_id, "goes", len(plan.going))
    client.log_metric(run_id, "frees_mb", plan.bytes / 1e6)
    close_run(client, run_id)
