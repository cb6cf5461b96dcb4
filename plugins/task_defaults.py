"""What all tasks of the lifecycle share: a fault of the surroundings is tried again, a fault of the input is not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

from include.registry.errors import ModelRejectedError, UnknownModelError

BAD_INPUT = "the input is at fault, so trying again would not help"

FAIL_ON_BAD_INPUT = ExceptionRetryPolicy(
    rules=[
        RetryRule(exception=kind, action=RetryAction.FAIL, reason=BAD_INPUT)
        for kind in (ValueError, LookupError, FileNotFoundError, UnknownModelError, ModelRejectedError)
    ]
)

TASK_DEFAULTS: dict[str, Any] = {
    "owner": "atelier",
    "retries": 3,
    "retry_delay": timedelta(seconds=5),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=2),
    "retry_policy": FAIL_ON_BAD_INPUT,
}
