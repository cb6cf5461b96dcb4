"""A small client of Airflow's REST API (v2): start a DAG run, watch it, read its logs and results, answer an approval."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

APPROVE, REJECT = "Approve", "Reject"
APPROVAL_SETTLES_S = 4.0  # what a task's process may take to end once it waits for a person
#: Marks that fold the UI's log, and what Airflow says while a task's log file isn't there yet.
_NOISE = ("::", "Could not read served logs")


class RunState(StrEnum):
    QUEUED = "queued"  #: accepted, waits for a slot
    RUNNING = "running"  #: at least one task has started
    SUCCESS = "success"
    FAILED = "failed"

    @property
    def terminal(self) -> bool:
        return self in (RunState.SUCCESS, RunState.FAILED)


@dataclass(frozen=True, kw_only=True)
class DagRun:
    """One run of a DAG."""

    dag_id: str
    run_id: str
    state: RunState
    conf: Mapping[str, Any]  #: the parameters it was started with
    start: str | None  #: ISO time, None while queued
    end: str | None  #: ISO time, None while it runs


@dataclass(frozen=True, kw_only=True)
class TaskRun:
    """One task of a run; a mapped task has one per map index."""

    task_id: str
    map_index: int  #: -1 where the task isn't mapped
    state: str  #: Airflow's task state; "none" before the scheduler has looked at it
    try_number: int
    duration_s: float | None
    pid: int | None  #: process of the newest try, on the machine that ran it

    @property
    def label(self) -> str:
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What :meth:`AirflowApi.wait` reports after each look."""

    run: DagRun
    tasks: tuple[TaskRun, ...]
    elapsed_s: float
    line: str  #: the newest log line of the running task, empty if there is none


class AirflowError(RuntimeError):
    """Airflow can't be reached or answered with an error; the message says which."""


class AirflowUnreachableError(AirflowError):
    """Nobody answers at the address."""


class RunUnknownError(AirflowError):
    """There is no such DAG, run or task."""


class DagRunRefusedError(AirflowError):
    """The parameters of a run were refused; the message is Airflow's and names the parameter."""


class DagRunFailedError(AirflowError):
    """A run ended in failure; the message has the failed tasks and the end of the first one's log."""


class AirflowApi:
    """Logs in at the first call and again when the token has expired.

    :param base_url: for example ``http://127.0.0.1:8080``
    """

    def __init__(
        self, base_url: str, username: str, password: str, *, timeout_s: float = 20.0, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._login = {"username": username, "password": password}
        self._http = httpx.Client(base_url=base_url.rstrip("/"), timeout=timeout_s, transport=transport)
        self._token = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def dag_ids(self) -> list[str]:
        """The DAGs that the DAG processor has parsed so far."""
        return [dag["dag_id"] for dag in self._get("/dags", limit=100)["dags"]]

    def import_errors(self) -> dict[str, str]:
        """File name → traceback of each DAG file that doesn't import."""
        return {error["filename"]: error["stack_trace"] for error in self._get("/importErrors")["import_errors"]}

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None, *, run_id: str | None = None) -> DagRun:
        """Starts a run. Raises :class:`DagRunRefusedError` where a parameter is out of range."""
        body: dict[str, Any] = {"logical_date": None, "conf": dict(conf or {})}
        if run_id:
            body["dag_run_id"] = run_id
        return _run(self._call("POST", f"/dags/{dag_id}/dagRuns", json=body))

    def run(self, dag_id: str, run_id: str) -> DagRun:
        return _run(self._get(_path(dag_id, run_id)))

    def runs(self, dag_id: str) -> list[DagRun]:
        """The newest runs of a DAG, newest first."""
        return [_run(found) for found in self._get(f"/dags/{dag_id}/dagRuns", order_by="-run_after", limit=100)["dag_runs"]]

    def state(self, dag_id: str, run_id: str) -> RunState:
        return self.run(dag_id, run_id).state

    def task_states(self, dag_id: str, run_id: str) -> tuple[TaskRun, ...]:
        """The run's tasks in the order they started; those not started yet come last."""
        found = self._get(f"{_path(dag_id, run_id)}/taskInstances", limit=100)["task_instances"]
        found.sort(key=lambda task: (task["start_date"] is None, task["start_date"] or "", task["task_id"], task["map_index"]))
        return tuple(_task(task) for task in found)

    def log(self, dag_id: str, run_id: str, task: TaskRun) -> list[str]:
        """The log lines of a task's newest try; empty before it starts."""
        if task.try_number < 1:
            return []
        path = f"{_path(dag_id, run_id)}/taskInstances/{task.task_id}/logs/{task.try_number}"
        content = self._get(path, map_index=task.map_index, full_content=True)["content"]
        lines = [text for line in content for text in _texts(line)]
        return [line for line in lines if line and not line.startswith(_NOISE)]

    def log_tail(self, dag_id: str, run_id: str, task: TaskRun, lines: int = 20) -> list[str]:
        return self.log(dag_id, run_id, task)[-lines:]

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """What a task returned. Raises :class:`AirflowError` where it returned nothing."""
        path = f"{_path(dag_id, run_id)}/taskInstances/{task_id}/xcomEntries/{key}"
        return self._get(path, map_index=map_index, deserialize=False, stringify=False)["value"]

    def approvals(self, dag_id: str, run_id: str) -> list[str]:
        """Task ids of the run that wait for a person's answer, once the scheduler can have seen that they do.

        Airflow 3.3 takes a task that is answered before the scheduler has seen it let go of its slot for a failed one, and asks again.
        The scheduler's heart beats after it looked at what ended.
        """
        found = self._get(f"{_path(dag_id, run_id)}/hitlDetails", response_received=False)["hitl_details"]
        waiting = [detail for detail in found if detail["task_instance"]["state"] == "awaiting_input"]
        if not waiting:
            return []
        beat = self._get("/monitor/health")["scheduler"]["latest_scheduler_heartbeat"]
        settled = _time(beat) - timedelta(seconds=APPROVAL_SETTLES_S)
        return [detail["task_instance"]["task_id"] for detail in waiting if _time(detail["created_at"]) <= settled]

    def answer(self, dag_id: str, run_id: str, task_id: str, option: str = APPROVE) -> None:
        """Answers an approval as the logged-in user."""
        path = f"{_path(dag_id, run_id)}/taskInstances/{task_id}/-1/hitlDetails"
        self._call("PATCH", path, json={"chosen_options": [option], "params_input": {}})

    def cancel(self, dag_id: str, run_id: str) -> None:
        """Ends a run as failed; its running tasks are stopped."""
        self._call("PATCH", _path(dag_id, run_id), json={"state": "failed"})

    def wait(
        self,
        dag_id: str,
        run_id: str,
        *,
        timeout_s: float = 600.0,
        poll_s: float = 1.0,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> DagRun:
        """Returns the run once it has succeeded. A server that is away for a while is asked again.

        Raises :class:`DagRunFailedError` where it failed and :class:`TimeoutError` where it is still going after ``timeout_s``.
        """
        started, state = time.monotonic(), "out of sight"
        while (elapsed := time.monotonic() - started) <= timeout_s:
            try:
                run = self.run(dag_id, run_id)
                if on_progress is not None:
                    on_progress(self._progress(run, elapsed))
                if run.state.terminal:
                    return self._succeeded(run)
                state = run.state
            except AirflowUnreachableError as error:
                state = f"out of sight: {error}"
            time.sleep(poll_s)
        raise TimeoutError(f"{dag_id} {run_id} is still {state} after {timeout_s:.0f} s")

    def _succeeded(self, run: DagRun) -> DagRun:
        if run.state is RunState.FAILED:
            raise DagRunFailedError(self._explain(run))
        return run

    def _progress(self, run: DagRun, elapsed_s: float) -> Progress:
        tasks = self.task_states(run.dag_id, run.run_id)
        running = next((task for task in reversed(tasks) if task.state == "running"), None)
        lines = self.log_tail(run.dag_id, run.run_id, running, 1) if running else []
        return Progress(run=run, tasks=tasks, elapsed_s=elapsed_s, line=lines[-1] if lines else "")

    def _explain(self, run: DagRun) -> str:
        failed = [task for task in self.task_states(run.dag_id, run.run_id) if task.state == "failed"]
        names = ", ".join(task.label for task in failed) or "no task ran"
        tail = "\n".join(self.log_tail(run.dag_id, run.run_id, failed[0], 15)) if failed else ""
        return f"{run.dag_id} {run.run_id} failed in {names}\n{tail}".rstrip()

    def _get(self, path: str, **params: Any) -> dict[str, Any]:
        return self._call("GET", path, params=params)

    def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        try:
            reply = self._authorised(method, path, **arguments)
            if reply.status_code == httpx.codes.UNAUTHORIZED:
                self._token = ""
                reply = self._authorised(method, path, **arguments)
        except httpx.HTTPError as error:
            raise AirflowUnreachableError(f"Airflow at {self._http.base_url} can't be reached: {error}") from error
        if method == "POST" and reply.status_code in (400, 422):
            raise DagRunRefusedError(_detail(reply))
        if reply.is_error:
            kind = RunUnknownError if reply.status_code == httpx.codes.NOT_FOUND else AirflowError
            raise kind(f"{method} {path} → {reply.status_code}: {_detail(reply)}")
        return reply.json() if reply.content else {}

    def _authorised(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        if not self._token:
            answer = self._http.post("/auth/token", json=self._login)
            if answer.is_error:
                raise AirflowError(f"login as {self._login['username']} was refused: {_detail(answer)}")
            self._token = answer.json()["access_token"]
        return self._http.request(method, f"/api/v2{path}", headers={"Authorization": f"Bearer {self._token}"}, **arguments)


def _path(dag_id: str, run_id: str) -> str:
    return f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"


def _time(text: str | None) -> datetime:
    """Of Airflow's ISO times; long ago where there is none."""
    return datetime.fromisoformat(text) if text else datetime.min.replace(tzinfo=UTC) + timedelta(days=1)


def _run(found: Mapping[str, Any]) -> DagRun:
    return DagRun(
        dag_id=found["dag_id"],
        run_id=found["dag_run_id"],
        state=RunState(found["state"]),
        conf=found["conf"] or {},
        start=found["start_date"],
        end=found["end_date"],
    )


def _task(found: Mapping[str, Any]) -> TaskRun:
    return TaskRun(
        task_id=found["task_id"],
        map_index=found["map_index"],
        state=found["state"] or "none",
        try_number=found["try_number"],
        duration_s=found["duration"],
        pid=found["pid"],
    )


def _texts(line: str | Mapping[str, Any]) -> list[str]:
    """What a log entry says, with the exceptions that it reports."""
    if isinstance(line, str):
        return [line]
    causes = line.get("error_detail") or []
    return [str(line["event"]), *(f"{cause['exc_type']}: {cause['exc_value']}" for cause in causes if isinstance(cause, Mapping))]


def _detail(reply: httpx.Response) -> str:
    try:
        detail = reply.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return reply.text[:500]
    return detail if isinstance(detail, str) else str(detail)
