"""Waits for one variant of a sweep, which runs as a process of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from include.lifecycle import jobs

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context


class MeasureVariantOperator(BaseOperator):
    """Starts the sweep or joins it, and returns the variant's row. All mapped tasks of a run wait for the same sweep, which measures one
    variant at a time; where it was killed, whoever waits starts it again and it goes on with what is missing.

    :param job: ``sweep``, the directory with the plan, and ``variant``
    """

    template_fields: Sequence[str] = ("job",)

    def __init__(self, *, job: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job = job

    def execute(self, context: Context) -> dict[str, Any]:
        from include.lifecycle.compression import await_row, job_environment
        from models.compression.plan import SweepPlan

        plan = SweepPlan.read(Path(self.job["sweep"]))
        return await_row(plan, self.job["variant"], job_environment(), self.log.info).model_dump(mode="json")

    def on_kill(self) -> None:
        jobs.stop(Path(self.job["sweep"]))
