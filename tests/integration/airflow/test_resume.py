"""A training run in Airflow outlives the death of its task and the death of its trainer, and never has two trainers."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import psutil

from include.lifecycle import jobs
from include.lifecycle.airflow_api import TaskRun
from include.lifecycle.training import run_directory
from include.registry.client import RegistryClient
from include.registry.tags import DATASET_AT
from tests.integration.airflow.conftest import LONG, Lifecycle
from tests.support.s3 import S3Server
from tests.support.waiting import wait_for


def training_task(lifecycle: Lifecycle, run_id: str) -> TaskRun:
    return next(task for task in lifecycle.api.task_states("train_model", run_id) if task.task_id == "train")


def steps_done(directory: Path) -> int:
    return max((int(step) for line in jobs.tail(directory, 1000) for step in re.findall(r"^step (\d+)/", line)), default=0)


def reconnected(lifecycle: Lifecycle, run_id: str) -> bool:
    task = training_task(lifecycle, run_id)
    return task.try_number == 2 and "Reconnecting to existing job" in lifecycle.api.log("train_model", run_id, task)


def trainers(directory: Path) -> list[int]:
    """Processes that train into this directory."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command = process.info["cmdline"] or []
        if (
            "models.training.train_text_to_image" in command
            and str(directory) in command
            and process.info["status"] != psutil.STATUS_ZOMBIE
        ):
            found.append(process.pid)
    return found


def test_killed_task_joins_the_trainer_and_killed_trainer_resumes(
    lifecycle: Lifecycle, dataset: dict[str, Any], s3_server: S3Server
) -> None:
    """On a dataset version in a bucket, which the trainer streams from there."""
    address = s3_server.upload(Path(dataset["manifest"]).parent, f"datasets/{dataset['version']}")
    conf = {"dataset_version": address, "init": "scratch", "config": "long"}
    run_id = lifecycle.api.trigger("train_model", conf).run_id
    directory = run_directory(lifecycle.settings, run_id)
    wait_for(lambda: steps_done(directory) >= 20, 120, "the trainer to be under way")
    (trainer,) = trainers(directory)
    # Held in the middle of its work, so that it can't be done before the task is tried again.
    os.kill(trainer, signal.SIGSTOP)
    reached = steps_done(directory)

    first = training_task(lifecycle, run_id)
    os.kill(int(first.pid or 0), signal.SIGKILL)
    wait_for(lambda: reconnected(lifecycle, run_id), 90, "the second try to find the trainer", 0.5)
    assert trainers(directory) == [trainer]

    os.kill(trainer, signal.SIGKILL)
    wait_for(lambda: len(trainers(directory)) == 1 and trainers(directory) != [trainer], 90, "another trainer", 0.5)
    lifecycle.api.wait("train_model", run_id, timeout_s=180)

    log = "\n".join(jobs.tail(directory, 5000))
    assert log.count("starting from random weights") == 1
    resumed = re.search(r"resumed at step (\d+)", log)
    assert resumed and 10 <= int(resumed[1]) <= reached + 50
    trained = json.loads((directory / "training.json").read_text())
    assert (trained["steps"], trained["dataset_digest"]) == (LONG["max_steps"], dataset["digest"])
    assert f"{address}/manifest.json" in json.loads((directory / "job.json").read_text())["command"]
    version = lifecycle.api.xcom("train_model", run_id, "register")["version"]
    with RegistryClient(lifecycle.settings.mlflow) as client:
        assert client.version(lifecycle.settings.model_name, version).tags[DATASET_AT] == address


def test_a_cancelled_run_stops_its_trainer(lifecycle: Lifecycle, dataset: dict[str, Any]) -> None:
    conf = {"dataset_version": dataset["version"], "init": "scratch", "config": "long", "max_steps": 100_000}
    run_id = lifecycle.api.trigger("train_model", conf).run_id
    directory = run_directory(lifecycle.settings, run_id)
    wait_for(lambda: steps_done(directory) >= 5, 120, "the trainer to be under way")
    lifecycle.api.cancel("train_model", run_id)
    wait_for(lambda: not trainers(directory), 60, "the trainer to end", 0.5)
    assert "stopping after this step" in "\n".join(jobs.tail(directory, 100))
