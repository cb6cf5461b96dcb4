"""A person's approval in Airflow, which a run may be started without."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk.exceptions import AirflowSkipException

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context


class ApprovePromotionOperator(ApprovalOperator):
    """Waits for Approve or Reject, and skips itself where the run's parameter ``approve`` is ``yes``."""

    def execute(self, context: Context) -> Any:
        if context["params"]["approve"] == "yes":
            raise AirflowSkipException("Approved by the run's parameter approve=yes.")
        return super().execute(context)
