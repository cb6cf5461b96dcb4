"""Runs DAGs through Airflow's REST API and shows how they go."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from include.demo.live import shown, since
from include.demo.steps import StepFailedError
from include.lifecycle.airflow_api import AirflowApi, AirflowError, Progress, TaskRun

TASK_STYLE = {"success": "green", "running": "cyan", "failed": "red", "up_for_retry": "yellow", "skipped": "dim"}
PARSE_TIMEOUT_S = 90.0


@dataclass(frozen=True, kw_only=True)
class BegunRun:
    dag_id: str
    run_id: str
    result_of: str  #: the task whose return value is wanted
    began: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    dag_id: str
    run_id: str
    seconds: float
    result: Mapping[str, Any]  #: what the last task returned


class Watch:
    """The newest progress of a run, for the live view."""

    def __init__(self, started: float) -> None:
        self.progress: Progress | None = None
        self.started = started

    def note(self, progress: Progress) -> None:
        self.progress = progress

    def view(self) -> RenderableType:
        if self.progress is None:
            return Text(f"   {since(self.started)}  waiting for Airflow", "dim")
        return Group(
            Text("   ").append(since(self.started), "dim").append("  ").append(_tasks(self.progress.tasks)),
            Text(f"   {self.progress.line[:160]}", "dim"),
        )

    def line(self) -> str:
        if self.progress is None:
            return f"   {since(self.started)}  waiting for Airflow"
        return f"   {since(self.started)}  {_tasks(self.progress.tasks).plain}  {self.progress.line[:120]}"


def _tasks(tasks: tuple[TaskRun, ...]) -> Text:
    return Text("   ").join(Text(f"{task.label} {task.state}", TASK_STYLE.get(task.state, "")) for task in tasks)


def wait_until_parsed(api: AirflowApi, dag_ids: tuple[str, ...]) -> None:
    """Raises :class:`StepFailedError` with the traceback where a DAG doesn't import or doesn't appear."""
    deadline = time.monotonic() + PARSE_TIMEOUT_S
    while missing := set(dag_ids) - set(api.dag_ids()):
        if time.monotonic() > deadline:
            errors = "\n".join(f"{name}:\n{trace}" for name, trace in api.import_errors().items())
            raise StepFailedError(
                f"Airflow does not know {', '.join(sorted(missing))}\n{errors or '`atelier logs airflow-dag-processor` has more'}"
            )
        time.sleep(0.5)


def begin_dag(api: AirflowApi, dag_id: str, conf: Mapping[str, Any], *, run_id: str, result_of: str) -> BegunRun:
    """Triggers a DAG. Raises :class:`StepFailedError` where Airflow refuses."""
    try:
        api.trigger(dag_id, conf, run_id=run_id)
    except AirflowError as error:
        raise StepFailedError(f"{dag_id}: {error}") from error
    return BegunRun(dag_id=dag_id, run_id=run_id, result_of=result_of)


def follow_dag(
    api: AirflowApi, console: Console, begun: BegunRun, *, timeout_s: float, meanwhile: Callable[[], None] = lambda: None
) -> FinishedRun:
    """Shows a run until its success. Raises :class:`StepFailedError` with the end of the failed task's log.

    :param meanwhile: called at each look at the run
    """
    watch = Watch(begun.began)

    def look(progress: Progress) -> None:
        watch.note(progress)
        meanwhile()

    try:
        with shown(console, watch.view, watch.line):
            api.wait(begun.dag_id, begun.run_id, timeout_s=timeout_s, poll_s=1.0, on_progress=look)
        result = api.xcom(begun.dag_id, begun.run_id, begun.result_of)
    except (AirflowError, TimeoutError) as error:
        raise StepFailedError(f"{begun.dag_id}: {error}") from error
    return FinishedRun(dag_id=begun.dag_id, run_id=begun.run_id, seconds=time.monotonic() - begun.began, result=result)
