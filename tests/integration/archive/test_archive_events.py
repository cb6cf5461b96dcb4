"""Events, prompts and ratings from a real Kafka become Parquet by a real Flink, and rated images from that."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from include.config import PROJECT_ROOT, Settings
from include.contracts import topics as names
from include.contracts.feedback import Rating
from include.dataset.archive import RatedImage, rated_images
from include.platform.environment import settings_environment
from tests.support.flink_cluster import FlinkCluster
from tests.support.kafka_client import send
from tests.support.waiting import wait_for

JOB = PROJECT_ROOT / "flink_jobs" / "archive_events.py"
SHA = "a" * 64


def completed(request_id: str) -> dict[str, Any]:
    image = {"index": 0, "key": f"images/acme/{request_id}/0.png", "sha256": SHA, "size_bytes": 9, "width": 64, "height": 64, "seed": 1}
    told = {"event_id": f"{request_id}:Completed:1:0", "request_id": request_id, "tenant": "acme", "state": "Completed", "at": time.time()}
    return {**told, "model": "emoji", "model_version": "3", "images": [{**image, "media_type": "image/png"}]}


def read(place: Path) -> list[RatedImage]:
    return list(rated_images(str(place))) if place.is_dir() else []


@pytest.mark.timeout(240)
def test_a_rated_image_reaches_the_archive_with_its_prompt(flink_cluster: FlinkCluster, topics: Settings, tmp_path: Path) -> None:
    arguments = ("--place", tmp_path.as_uri(), "--checkpoint-interval", "2s")
    job_id = flink_cluster.submit(JOB, env=settings_environment(topics), arguments=arguments)
    send(topics, names.REALTIME, json.dumps({"request_id": "r-1", "tenant": "acme", "prompt": "a red heart"}), "{not JSON")
    send(topics, names.EVENTS, json.dumps(completed("r-1")), json.dumps({**completed("r-1"), "state": "Processing"}))
    rating = Rating(request_id="r-1", tenant="acme", rating=5, by_whom="ann", at=time.time())
    send(topics, names.RATINGS, rating.to_json())

    found = wait_for(lambda: [image for image in read(tmp_path) if image.prompt], 120, "the rated image in the archive", 1.0)
    assert [(image.key, image.prompt, image.rating, image.model_version) for image in found] == [
        ("images/acme/r-1/0.png", "a red heart", 5.0, "3")
    ]
    flink_cluster.cancel(job_id)
