"""MLflow runs of the lifecycle: found again by a key, so that a repeated task goes on in the run that it had begun."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Run
from mlflow.exceptions import MlflowException

from include.config import Settings
from include.dataset.loader import read_manifest
from include.dataset.trees import is_bucket, read_range
from include.dataset.versions import DatasetVersion

KEY = "atelier.key"  #: run tag that holds the key


def client_of(settings: Settings) -> MlflowClient:
    return MlflowClient(tracking_uri=settings.mlflow, registry_uri=settings.mlflow)


def open_run(client: MlflowClient, experiment: str, key: str, name: str, tags: Mapping[str, str] | None = None) -> str:
    """The id of the experiment's run with this key, made where there is none."""
    experiment_id = _experiment(client, experiment)
    found = client.search_runs([experiment_id], filter_string=f"tags.`{KEY}` = '{key}'", max_results=1)
    if found:
        client.update_run(found[0].info.run_id, status="RUNNING")
        return str(found[0].info.run_id)
    run = client.create_run(experiment_id, run_name=name, tags={**(tags or {}), KEY: key})
    return str(run.info.run_id)


def every_run(client: MlflowClient, filter_string: str = "") -> Iterator[Run]:
    """The runs of all experiments that the filter lets through."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    token: str | None = None
    while token != "":
        page = client.search_runs(experiments, filter_string=filter_string, max_results=1000, page_token=token)
        yield from page
        token = page.token or ""


def close_run(client: MlflowClient, run_id: str, *, failed: bool = False) -> None:
    client.set_terminated(run_id, "FAILED" if failed else "FINISHED")


def log_dataset(client: MlflowClient, run_id: str, version: DatasetVersion, context: str) -> None:
    """Makes the version an input of the run, as MLflow shows it under "Datasets used".

    :param context: what for, such as ``training``
    """
    manifest = read_manifest(version.manifest, read_range)
    entity = Dataset(
        name=version.name,
        digest=version.digest[:36],
        source_type="s3" if is_bucket(version.manifest) else "local",
        source=json.dumps({"uri": version.manifest if is_bucket(version.manifest) else Path(version.manifest).as_uri()}),
        profile=json.dumps({"counts": version.counts, "licenses": manifest["licenses"], "size": manifest["size"]}),
    )
    client.log_inputs(run_id, datasets=[DatasetInput(entity, [InputTag("mlflow.data.context", context)])])


def log_dataset_report(client: MlflowClient, run_id: str, version: DatasetVersion) -> None:
    """Counts as metrics, report and manifest as artifacts."""
    for split, count in version.counts.items():
        client.log_metric(run_id, f"samples_{split}", count)
    client.log_metric(run_id, "rejected", sum(version.rejected.values()))
    client.log_artifact(run_id, version.report)
    client.log_artifact(run_id, version.manifest)


def _experiment(client: MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name))
    except MlflowException:  # another task may have made it meanwhile
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)
