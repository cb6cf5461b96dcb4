"""### A model version → the champion

`gate` compares the version's measurements with the champion's by the policy below and fails with its reasons where it is worse than
allowed. `approve` waits for a person, who sees the comparison and the samples; with `approve` = `yes` it is skipped. `challenge` gives
the version a share of the live requests, which `canary` judges by what becomes of them: it fails, and the champion stays, where the
version does worse than allowed. `promote` moves the alias `champion`; workers follow within seconds. Each move says who, when, from what
and why. With `canary_share` = 0, or without a champion, there is no canary. A killed task goes on where it was.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from include.config import settings
from plugins import params
from plugins.assets import CHAMPIONS, PROMOTION_REQUESTS, with_request
from plugins.operators.approve_promotion import ApprovePromotionOperator
from plugins.promotion_params import CANARY_PARAMS, GATE_PARAMS
from plugins.task_defaults import TASK_DEFAULTS

PARAMS = {
    "model": params.model(),
    "version": params.version("Version to promote; empty is the newest."),
    "approve": Param("ask", enum=["ask", "yes"], description="ask: wait for a person's approval here; yes: it comes with this run."),
    "why": params.text("Reason, recorded with the promotion."),
    **GATE_PARAMS,
    **CANARY_PARAMS,
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

    @task(trigger_rule="none_failed")
    def challenge(report: dict[str, Any], params: Any = None, dag_run: Any = None, ti: Any = None) -> dict[str, Any]:
        from include.lifecycle import steps

        return steps.challenge(settings(), report, params, ti.xcom_pull("approve"), dag_run.triggering_user_name, dag_run.run_id)

    @task(execution_timeout=timedelta(days=8))
    def canary(plan: dict[str, Any], params: Any = None) -> str:
        from include.lifecycle import steps

        return steps.try_out(settings(), plan, params)

    @task(outlets=[CHAMPIONS])
    def promote(
        report: dict[str, Any], verdict: str, params: Any = None, dag_run: Any = None, ti: Any = None, outlet_events: Any = None
    ) -> dict[str, Any]:
        from include.lifecycle import steps

        move = steps.promote(settings(), report, params, ti.xcom_pull("approve"), dag_run.triggering_user_name)
        outlet_events[CHAMPIONS].extra = {**move, "canary": verdict}
        return move

    report: Any = gate()
    plan: Any = challenge(report)
    report >> approve >> plan
    promote(report, canary(plan))


promote_model()
