"""### Images and captions → a dataset version

Lists a source, checks and rasterises its files shard by shard, quarantines what is corrupt with its reason, merges exact duplicates,
splits by content and publishes Parquet shards with a manifest whose digest names the version. The same input gives the same version;
a run that was killed goes on with the shards that are missing.

Counts, report and quarantine are in MLflow, experiment `datasets`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import Param, dag, task

from plugins import params
from plugins.assets import DATASETS, NEXT_STEP, TRAINING_REQUESTS
from plugins.task_defaults import TASK_DEFAULTS

PARAMS = {
    "source": Param("openmoji", enum=["openmoji", "folder"], description="OpenMoji's 4,495 drawings, or a folder of your own."),
    "path": params.text("For `folder`: a directory of images, each with a .txt caption beside it.", 4096),
    "name": params.name("openmoji", "Name of the dataset; a version adds its digest."),
    "license": params.text("For `folder`: licence of the images, recorded with each sample.", 200),
    "author": params.text("For `folder`: author of the images, recorded with each sample.", 200),
    "size": Param(64, type="integer", minimum=16, maximum=1024, multipleOf=8, description="Side of the prepared images in pixels."),
    "limit": params.optional("integer", "Only the first so many files; empty: all.", minimum=1, maximum=10_000_000),
    "shard_size": params.number(2300, 1, 100_000, "Source files a shard; shards are prepared side by side."),
    "validation": Param(0.02, type="number", minimum=0, maximum=0.5, description="Share of the samples held out for validation."),
    "then_train": params.tick("Start train_model on the new version."),
}


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args=TASK_DEFAULTS,
    tags=["atelier", "data"],
    doc_md=__doc__,
    params=PARAMS,
)
def prepare_dataset() -> None:
    @task
    def plan_shards(params: Any = None) -> list[dict[str, Any]]:
        from include.config import settings
        from include.lifecycle.preparation import plan

        return plan(settings(), params)

    @task(map_index_template="shard {{ task.op_kwargs['plan']['index'] }}")
    def prepare_shard(plan: dict[str, Any]) -> dict[str, Any]:
        from dataclasses import asdict

        from include.dataset import shards

        return asdict(shards.prepare_shard(plan))

    @task(outlets=[DATASETS, NEXT_STEP])
    def publish(results: list[dict[str, Any]], params: Any = None, run_id: Any = None, outlet_events: Any = None) -> dict[str, Any]:
        from include.config import settings
        from include.lifecycle import preparation

        version = preparation.publish(settings(), results)
        facts = {
            "version": version.version,
            "digest": version.digest,
            "manifest": version.manifest,
            "report": version.report,
            "counts": version.counts,
        }
        facts["mlflow_run_id"] = preparation.log_version(settings(), version, run_id)
        outlet_events[DATASETS].extra = {"version": version.version, "digest": version.digest}
        if params["then_train"]:
            outlet_events[NEXT_STEP].add(TRAINING_REQUESTS, extra={"dataset_version": version.version})
        return facts

    publish(prepare_shard.expand(plan=plan_shards()))


prepare_dataset()
