"""The feedback archive as ``flink_jobs/archive_events.py`` lays it down: Parquet files of events, requests and ratings."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from include.dataset.trees import list_tree, read_range

EVENTS, REQUESTS, RATINGS = "events", "requests", "ratings"
_COLUMNS = {
    EVENTS: ("request_id", "tenant", "model", "model_version", "images"),
    REQUESTS: ("request_id", "tenant", "prompt"),
    RATINGS: ("request_id", "tenant", "rating", "by_whom", "at"),
}


@dataclass(frozen=True, kw_only=True)
class RatedImage:
    """One generated image with what people thought of its request."""

    key: str  #: of the image in the object store
    sha256: str
    prompt: str  #: empty where the archive has none
    tenant: str
    request_id: str
    model: str
    model_version: str
    rating: float  #: mean of all ratings, from 1 to 5


def rated_images(place: str) -> Iterator[RatedImage]:
    """The images of completed requests that were rated, in the order of their keys, each once however often its event was archived.

    :param place: a folder or s3://bucket/prefix
    """
    ratings = _ratings(place)
    prompts = {(row["tenant"], row["request_id"]): row["prompt"] or "" for row in _rows(place, REQUESTS)}
    found: dict[str, RatedImage] = {}
    for row in _rows(place, EVENTS):
        request = (row["tenant"], row["request_id"])
        if request in ratings:
            for image in row["images"] or ():
                found[image["key"]] = RatedImage(
                    key=image["key"],
                    sha256=image["sha256"],
                    prompt=prompts.get(request, ""),
                    tenant=row["tenant"],
                    request_id=row["request_id"],
                    model=row["model"] or "",
                    model_version=row["model_version"] or "",
                    rating=ratings[request],
                )
    yield from (found[key] for key in sorted(found))


def _ratings(place: str) -> dict[tuple[str, str], float]:
    """The mean for each request; of several ratings by one person the newest counts."""
    newest: dict[tuple[str, str], dict[str, tuple[float, float]]] = defaultdict(dict)
    for row in _rows(place, RATINGS):
        people = newest[row["tenant"], row["request_id"]]
        people[row["by_whom"]] = max(people.get(row["by_whom"], (0.0, 0.0)), (row["at"], float(row["rating"])))
    return {request: sum(rating for _, rating in people.values()) / len(people) for request, people in newest.items()}


def _rows(place: str, table: str) -> Iterator[dict[str, Any]]:
    """Rows of the finished files. Flink's sink names the ones that it still writes with a dot or an underscore in front."""
    for entry in list_tree(place):
        folder, name = entry.key.split("/", 1)[0], entry.key.rsplit("/", 1)[-1]
        if folder == table and not name.startswith((".", "_")):
            yield from pq.read_table(io.BytesIO(read_range(entry.path)), columns=list(_COLUMNS[table])).to_pylist()
