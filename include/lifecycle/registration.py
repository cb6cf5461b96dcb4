"""The step of ``train_model`` after the trainer: the exported pipeline becomes a version of the registered model."""

from __future__ import annotations

from include.config import Settings
from include.contracts.dispatch import ModelRef
from include.lifecycle.tracking import client_of, close_run
from include.lifecycle.training import TrainingPlan
from include.registry.publish import register_version


def register_outcome(settings: Settings, plan: TrainingPlan, model: str) -> ModelRef:
    """Registers the pipeline that the run exported. Repeating it takes the version that the run has already."""
    outcome = plan.outcome()
    ref = register_version(
        outcome.pipeline,
        model_name=model,
        run_id=plan.mlflow_run_id,
        defaults=outcome.defaults(),
        tags=outcome.tags(plan),
        uri=settings.mlflow,
    )
    close_run(client_of(settings), plan.mlflow_run_id)
    return ref
