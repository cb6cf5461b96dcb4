"""Runs the trainer as a process of its own, which outlives the task that started it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, ResumableJobMixin
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from include.config import settings
from include.lifecycle import jobs
from include.lifecycle.training import TrainingPlan
from models.training.status import FINAL

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context


class TrainModelOperator(ResumableJobMixin, BaseOperator):
    """Streams the trainer's lines, with loss and remaining time, into the task's log.

    Where the task's process was killed the next try joins the trainer that is still running; where the trainer was killed it starts one
    that goes on from the last checkpoint, unless it would only come to the same end. Two trainers of one run can't exist: the job holds the
    lock of the run's directory, and the trainer one of its own that also keeps out one that was started by hand.

    :param plan: a :class:`~include.lifecycle.training.TrainingPlan` as a mapping
    """

    template_fields: Sequence[str] = ("plan",)
    external_id_key = "training_directory"

    def __init__(self, *, plan: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan

    def execute(self, context: Context) -> dict[str, Any]:
        return self.execute_resumable(context)

    def submit_job(self, context: Context) -> str:
        plan = self._plan()
        started = jobs.submit(plan.directory, plan.command(), plan.environment(settings()))
        self.log.info("%s the trainer in %s", "Started" if started else "Joined", plan.directory)
        return str(plan.directory)

    def get_job_status(self, external_id: Any, context: Context) -> str:
        return jobs.state(Path(external_id))

    def is_job_active(self, status: str) -> bool:
        return status == jobs.JobState.RUNNING

    def is_job_succeeded(self, status: str) -> bool:
        return status == jobs.JobState.SUCCEEDED

    def poll_until_complete(self, external_id: Any, context: Context) -> dict[str, Any]:
        try:
            jobs.follow(Path(external_id), self.log.info)
        except jobs.JobFailedError as error:
            if jobs.exit_code(Path(external_id)) in FINAL:
                raise AirflowFailException(str(error)) from error
            raise AirflowException(f"{error}\nThe next try goes on from the last checkpoint.") from error
        return self.get_job_result(external_id, context)

    def get_job_result(self, external_id: Any, context: Context) -> dict[str, Any]:
        outcome = self._plan().outcome()
        return {"exported": str(outcome.exported), "steps": outcome.record["steps"], "metrics": dict(outcome.record["metrics"])}

    def on_kill(self) -> None:
        jobs.stop(self._plan().directory)

    def _plan(self) -> TrainingPlan:
        return TrainingPlan.model_validate(self.plan)
