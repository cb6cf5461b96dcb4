"""### Images and captions → a dataset version

Lists a source (OpenMoji, a folder or S3 prefix with captions in sidecars, tables or webdataset tars, or the feedback archive), checks,
decodes and resizes what is new in it shard by shard, quarantines what can't be used with its stage and reason, drops copies and near
copies, splits so that no near copy is on the other side, and publishes Parquet shards with a manifest whose digest names the version.
The same input gives the same version; a killed run goes on with what is missing; an image more is the work of an image.

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
    "source": Param("openmoji", enum=["openmoji", "folder", "feedback"], description="OpenMoji's 4,495 drawings, or images of your own."),
    "path": params.text("For `folder` and `feedback`: a directory or s3://bucket/prefix.", 4096),
    "name": params.name("openmoji", "Name of the dataset; a version adds its digest."),
    "license": params.text("Licence of the images for which the source states none.", 200),
    "author": params.text("Author of the images for which the source names none.", 200),
    "size": Param(64, type="integer", minimum=16, maximum=1024, multipleOf=8, description="Side of the prepared images in pixels."),
    "fit": Param(
        "pad", enum=["pad", "crop", "bucket"], description="Other aspect ratios: padded, cut to a square, or to the nearest bucket."
    ),
    "image_format": Param("png", enum=["png", "jpeg", "webp"], description="How prepared images are stored; png loses nothing."),
    "limit": params.optional("integer", "Only the first so many files; empty: all.", minimum=1, maximum=10_000_000),
    "shard_size": params.number(2300, 1, 100_000, "Source files a shard; shards are prepared side by side."),
    "min_side": params.number(1, 1, 4096, "Images whose shorter side has fewer pixels are quarantined."),
    "min_sharpness": Param(0.0, type="number", minimum=0, maximum=1e6, description="Variance of the Laplacian, which blur lowers; 0: all."),
    "min_entropy": Param(0.0, type="number", minimum=0, maximum=8, description="Bits a pixel; a plain surface has 0."),
    "caption_language": Param("", enum=["", "de", "en", "es", "fr", "it", "nl", "pt"], description="Captions in others are dropped."),
    "licenses": params.text("Licences taken, with commas between and * for any ending; empty: all.", 2000),
    "near_duplicates": Param("auto", enum=["auto", "drop", "group"], description="Near copies: drop, or keep on one side of the split."),
    "against": params.text("Dataset versions of which no near copy is taken, with commas between.", 2000),
    "validation": Param(0.02, type="number", minimum=0, maximum=0.5, description="Share of the samples held out for validation."),
    "test": Param(0.0, type="number", minimum=0, maximum=0.5, description="Share of the samples held out for testing."),
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
        facts = preparation.facts(version, preparation.log_version(settings(), version, run_id))
        outlet_events[DATASETS].extra = {"version": version.version, "digest": version.digest}
        if params["then_train"]:
            outlet_events[NEXT_STEP].add(TRAINING_REQUESTS, extra={"dataset_version": version.version})
        return facts

    publish(prepare_shard.expand(plan=plan_shards()))


prepare_dataset()
