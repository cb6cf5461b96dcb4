"""### A dataset version → a model version

Trains a text-to-image network as a process of its own, streams its progress and remaining time into the log of the task `train`, and
registers the result in MLflow with its lineage: dataset digest, code version, seed, configuration, metrics. Parameters, loss curve and
sample grids are in the run, experiment `training`.

A configuration with `method: lora` makes an adapter, registered as MODEL-CONFIG; the task `distill_steps` makes a few-step student,
registered as MODEL-fast, which stands in for the model under load once it is promoted.

Kill what you like: a killed task joins the trainer that still runs, a killed trainer goes on from its last checkpoint.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from include.config import settings
from plugins import params
from plugins.assets import EVALUATION_REQUESTS, MODELS, NEXT_STEP, TRAINING_REQUESTS, with_request
from plugins.operators.train_model import TrainModelOperator
from plugins.task_defaults import TASK_DEFAULTS

PARAMS = {
    "model": params.model(),
    "dataset_version": params.dataset_version("to train on; empty is the newest"),
    "config": Param("demo", type="string", pattern="^[a-z0-9_-]+$", maxLength=40, description="A YAML of models/configs or HOME/configs."),
    "task": Param("train", enum=["train", "distill_steps"], description="distill_steps: make a few-step student; configuration `distill`."),
    "init": Param(
        "base",
        enum=["base", "champion", "scratch"],
        description="Start from the shipped checkpoint, the champion, or random weights.",
    ),
    "max_steps": params.optional("integer", "Optimizer steps; empty: the configuration's.", minimum=1, maximum=10_000_000),
    "seed": params.optional("integer", "Decides order and noise; empty: the configuration's.", minimum=0, maximum=2**31 - 1),
    "learning_rate": params.optional("number", "Empty: the configuration's.", exclusiveMinimum=0, maximum=1),
    "then_evaluate": params.tick("Start evaluate_model on the new version."),
}


@dag(
    schedule=[TRAINING_REQUESTS],
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args=TASK_DEFAULTS,
    tags=["atelier", "training"],
    doc_md=__doc__,
    params=PARAMS,
)
def train_model() -> None:
    @task
    def plan_training(params: Any = None, run_id: Any = None, triggering_asset_events: Any = None) -> dict[str, Any]:
        from include.lifecycle import planning

        return planning.plan_training(settings(), with_request(params, triggering_asset_events, TRAINING_REQUESTS), run_id).model_dump(
            mode="json"
        )

    @task(outlets=[MODELS, NEXT_STEP])
    def register(plan: dict[str, Any], params: Any = None, outlet_events: Any = None) -> dict[str, Any]:
        from include.lifecycle.registration import register_outcome
        from include.lifecycle.training import TrainingPlan

        version = register_outcome(settings(), TrainingPlan.model_validate(plan)).model_dump(mode="json")
        outlet_events[MODELS].extra = version
        if params["then_evaluate"]:
            outlet_events[NEXT_STEP].add(EVALUATION_REQUESTS, extra={"model": version["name"], "version": version["version"]})
        return version

    plan: Any = plan_training()
    TrainModelOperator(task_id="train", plan=plan, execution_timeout=timedelta(days=7)) >> register(plan)


train_model()
