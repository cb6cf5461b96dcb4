"""### A model version → measurements

Fetches a version as a worker does and measures quality, agreement of images with their prompts, held-out loss, diversity, what is
memorised or leaked, speed and size. The results are tags of the version, which the gate of `promote_model` reads, and a run in MLflow,
experiment `evaluation`, with the sample grid, the nearest training images and the model card.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import dag, task

from include.config import settings
from plugins import params
from plugins.assets import EVALUATION_REQUESTS, EVALUATIONS, NEXT_STEP, PROMOTION_REQUESTS, with_request
from plugins.task_defaults import TASK_DEFAULTS

PARAMS = {
    "model": params.model(),
    "version": params.version("Version to evaluate; empty is the newest."),
    "dataset_version": params.dataset_version("to measure on; empty is the one it was trained on"),
    "prompts": params.number(64, 4, 10_000, "Captions that are rendered; more make the quality surer."),
    "steps": params.number(12, 1, 200, "Denoising steps."),
    "seed": params.number(0, 0, 2**31 - 1, "Chooses captions and noise; equal seeds compare best."),
    "threads": params.number(2, 0, 256, "CPU threads; 0 leaves it to PyTorch."),
    "network": params.text("Directory of a CLIP, Inception v3 or two-tower network to measure with; empty is the shipped one."),
    "then_promote": params.tick("Start promote_model on the version; it will ask for approval."),
}


@dag(
    schedule=[EVALUATION_REQUESTS],
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args=TASK_DEFAULTS,
    tags=["atelier", "evaluation"],
    doc_md=__doc__,
    params=PARAMS,
)
def evaluate_model() -> None:
    @task(outlets=[EVALUATIONS, NEXT_STEP])
    def evaluate(params: Any = None, run_id: Any = None, triggering_asset_events: Any = None, outlet_events: Any = None) -> dict[str, Any]:
        from include.lifecycle.evaluation import evaluate_version

        result = evaluate_version(settings(), with_request(params, triggering_asset_events, EVALUATION_REQUESTS), run_id).model_dump(
            mode="json"
        )
        version = {"model": result["model"], "version": result["version"]}
        outlet_events[EVALUATIONS].extra = {**version, **result["metrics"]}
        if params["then_promote"]:
            outlet_events[NEXT_STEP].add(PROMOTION_REQUESTS, extra=version)
        return result

    evaluate()


evaluate_model()
