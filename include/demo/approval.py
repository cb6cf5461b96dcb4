"""What waits for a person in Airflow is answered as a person does, through the API that the form uses."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from include.lifecycle.airflow_api import AirflowApi, AirflowUnreachableError


@dataclass(frozen=True, kw_only=True)
class Approval:
    """One that was given."""

    task_id: str
    url: str  #: where a person finds the form
    asked_s: float  #: seconds from the start of the run to the moment it was seen waiting
    given_at: float  #: seconds since 1970


class Approver:
    """:meth:`look` gives whatever waits now; what it gave is in ``given``."""

    def __init__(self, api: AirflowApi, airflow: str, dag_id: str, run_id: str, say: Callable[[str], None]) -> None:
        self.given: list[Approval] = []
        self._api = api
        self._airflow = airflow
        self._dag_id = dag_id
        self._run_id = run_id
        self._say = say
        self._started = time.monotonic()

    def look(self) -> None:
        """Raises :class:`~include.lifecycle.airflow_api.AirflowError` where Airflow refuses the answer."""
        try:
            waiting = self._api.approvals(self._dag_id, self._run_id)
        except AirflowUnreachableError:
            return  # asked again at the next look
        for task_id in waiting:
            url = f"{self._airflow}/dags/{self._dag_id}/runs/{self._run_id}/tasks/{task_id}/required_actions"
            asked_s = time.monotonic() - self._started
            self._say(f"waits for a person at {url}; the demo approves it")
            self._api.answer(self._dag_id, self._run_id, task_id)
            self.given.append(Approval(task_id=task_id, url=url, asked_s=asked_s, given_at=time.time()))
