"""The step of ``train_model`` after the trainer: what it exported becomes a version of a registered model."""

from __future__ import annotations

from include.config import Settings
from include.contracts.dispatch import ModelRef
from include.lifecycle.tracking import client_of, close_run
from include.lifecycle.training import TrainingPlan
from include.registry.client import RegistryClient
from include.registry.publish import register_version
from include.registry.tags import DISTILLED


def register_outcome(settings: Settings, plan: TrainingPlan) -> ModelRef:
    """Registers what the run exported. Repeating it takes the version that the run has already.

    A student is made known to its teacher, which degrades to it under load once the student has a champion.
    """
    outcome = plan.outcome()
    name = outcome.registered_name(plan)
    ref = register_version(
        outcome.exported,
        model_name=name,
        run_id=plan.mlflow_run_id,
        defaults=outcome.defaults(),
        tags=outcome.tags(plan),
        uri=settings.mlflow,
    )
    if outcome.is_distilled:
        with RegistryClient(settings.mlflow) as client:
            client.set_model_tag(plan.model, DISTILLED, name)
    close_run(client_of(settings), plan.mlflow_run_id)
    return ref
