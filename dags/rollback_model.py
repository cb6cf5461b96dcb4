"""### The champion → an earlier version

Moves the alias `champion` back, to the version that served before unless another is named, and records who, when and why on it. Moving
the alias in MLflow's UI or `atelier rollback` do the same; workers follow within seconds.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import dag, task

from include.config import settings
from plugins import params
from plugins.assets import CHAMPIONS
from plugins.task_defaults import TASK_DEFAULTS

PARAMS = {
    "model": params.model(),
    "to_version": params.version("Version to go back to; empty is the one that served before."),
    "why": params.text("Reason, recorded with the move."),
}


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args=TASK_DEFAULTS,
    tags=["atelier", "promotion"],
    doc_md=__doc__,
    params=PARAMS,
)
def rollback_model() -> None:
    @task(outlets=[CHAMPIONS])
    def rollback(params: Any = None, dag_run: Any = None, outlet_events: Any = None) -> dict[str, Any]:
        from include.lifecycle import promotion

        who = dag_run.triggering_user_name or "airflow"
        why = params["why"] or "rolled back in Airflow"
        move = promotion.rollback(settings(), params["model"], params["to_version"], by=who, why=why).model_dump(mode="json")
        outlet_events[CHAMPIONS].extra = move
        return move

    rollback()


rollback_model()
