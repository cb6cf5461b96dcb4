"""### What is kept for too long → removed, as planned

`plan` looks at dataset versions, training runs and checkpoints, MLflow's large artifacts, caches, the object store's leftovers, the
feedback archive and Kafka's retention. What it would remove, and why the rest stays, is in its log and in MLflow, experiment `maintenance`.
Every day that is all. With `apply`, `remove` removes what the plan lists, after a second look at each thing; `plan` takes an earlier one.

What serves or served last, what it was made from, and the files of running jobs stay whatever the limits say.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, dag, task
from airflow.timetables.trigger import CronTriggerTimetable

from include.config import settings
from plugins import params
from plugins.task_defaults import TASK_DEFAULTS


def number(default: float | None, description: str, *, kinds: Any = "number", maximum: float = 36_500) -> Param:
    return Param(default, type=kinds, minimum=0, maximum=maximum, description=description)


def days(default: float | None, description: str) -> Param:
    return number(default, f"{description} Days; empty: for ever.", kinds=["null", "number"])


PARAMS = {
    "apply": params.tick("Remove what the plan lists; without it nothing is removed."),
    "plan": params.text("MLflow run of an earlier plan, which is taken as it is; empty: a new one.", 32),
    "grace_days": number(2, "Nothing younger goes, leftovers apart. Days."),
    "dataset_days": days(90, "Dataset versions."),
    "keep_datasets": params.number(3, 0, 1000, "Newest versions of each dataset that stay at any age."),
    "checkpoint_days": days(14, "Checkpoints of training runs that ended well."),
    "run_days": days(60, "Directories of training and evaluation runs."),
    "artifact_days": days(60, "Large artifacts of MLflow runs; a registered version's stay."),
    "artifact_mb": number(1, "Artifacts from this size on are large. 10^6 bytes.", maximum=1e9),
    "version_days": days(None, "Registered versions that no alias names and no champion came from."),
    "event_days": days(None, "Retention that is set for the topic of events; here empty: as shipped."),
    "archive_days": days(None, "The feedback archive."),
    "image_days": days(None, "Result images."),
    "leftover_days": days(1, "Previews, parked renders, unfinished files."),
    "cache_days": days(30, "Fetched models, encoded captions and images, prepared images."),
}


@dag(
    schedule=CronTriggerTimetable("0 3 * * *", timezone="UTC"),  # the first run at the next 3 o'clock, since there is no start date
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args=TASK_DEFAULTS,
    tags=["atelier", "maintenance"],
    doc_md=__doc__,
    params=PARAMS,
)
def maintain_platform() -> None:
    @task
    def plan(params: Any = None, run_id: Any = None) -> str:
        from include.lifecycle.maintenance.steps import make_plan

        return make_plan(settings(), params, run_id)

    @task.short_circuit
    def wanted(params: Any = None) -> bool:
        return bool(params["apply"])

    @task
    def remove(plan_run: str) -> dict[str, int]:
        from include.lifecycle.maintenance.steps import apply_plan

        return apply_plan(settings(), plan_run)

    made: Any = plan()
    made >> wanted() >> remove(made)


maintain_platform()
