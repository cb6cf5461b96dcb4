"""### A model version → the champion

`gate` compares the version's measurements with the champion's by the policy below and fails with its reasons where it is worse than
allowed. `approve` then waits for a person, who sees the comparison; with `approve` = `yes` it is skipped. `promote` moves the aliases
`challenger` and `champion` in MLflow and records who, when, from what and why on the version. Workers follow within seconds.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import Param, dag, task

from include.config import settings
from plugins import params
from plugins.assets import CHAMPIONS, PROMOTION_REQUESTS, with_request
from plugins.operators.approve_promotion import ApprovePromotionOperator
from plugins.task_defaults import TASK_DEFAULTS

PARAMS = {
    "model": params.model(),
    "version": params.version("Version to promote; empty is the newest."),
    "approve": Param("ask", enum=["ask", "yes"], description="ask: wait for a person's approval here; yes: it comes with this run."),
    "why": params.text("Reason, recorded with the promotion."),
    "quality_worse_pct": params.percent(10, "Growth allowed to kernel distance and held-out loss."),
    "slower_pct": params.percent(100, "Growth allowed to the seconds per image."),
    "bigger_pct": params.percent(10, "Growth allowed to the size."),
}


@dag(
    schedule=[PROMOTION_REQUESTS],
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args=TASK_DEFAULTS,
    tags=["atelier", "promotion"],
    doc_md=__doc__,
    params=PARAMS,
)
def promote_model() -> None:
    @task
    def gate(params: Any = None, triggering_asset_events: Any = None) -> dict[str, Any]:
        from include.lifecycle import steps

        return steps.gate(settings(), with_request(params, triggering_asset_events, PROMOTION_REQUESTS))

    approve = ApprovePromotionOperator(
        task_id="approve",
        subject="Make version {{ ti.xcom_pull('gate')['version'] }} of {{ ti.xcom_pull('gate')['model'] }} the champion?",
        body="{{ ti.xcom_pull('gate')['markdown'] }}",
    )

    @task(trigger_rule="none_failed", outlets=[CHAMPIONS])
    def promote(
        report: dict[str, Any], params: Any = None, dag_run: Any = None, ti: Any = None, outlet_events: Any = None
    ) -> dict[str, Any]:
        from include.lifecycle import steps

        answer = ti.xcom_pull("approve")
        move = steps.promote(settings(), report, params, answer, dag_run.triggering_user_name)
        outlet_events[CHAMPIONS].extra = move
        return move

    report: Any = gate()
    report >> approve >> promote(report)


promote_model()
