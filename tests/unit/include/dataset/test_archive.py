"""The feedback archive as a source of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include.dataset.archive import rated_images
from include.dataset.sources import FeedbackSource

SHA = "a" * 64


def write(place: Path, table: str, rows: list[dict[str, Any]], name: str = "part-0") -> None:
    folder = place / table / "day=2026-01-01"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / name)


def event(request: str) -> dict[str, Any]:
    images = [{"index": 0, "key": f"images/acme/{request}/0.png", "sha256": SHA}]
    return {"request_id": request, "tenant": "acme", "model": "emoji", "model_version": "3", "images": images}


def rating(request: str, stars: int, by_whom: str = "", at: float = 1.0) -> dict[str, Any]:
    return {"request_id": request, "tenant": "acme", "rating": stars, "by_whom": by_whom, "at": at}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write(tmp_path, "events", [event("r-1"), event("r-1"), event("r-2"), event("r-3")])
    write(tmp_path, "requests", [{"request_id": "r-1", "tenant": "acme", "prompt": "a red heart"}])
    write(tmp_path, "ratings", [rating("r-1", 5, "ann"), rating("r-1", 4, "bob"), rating("r-2", 5, "ann"), rating("r-2", 1, "ann", 2.0)])
    return tmp_path


def test_images_come_once_with_prompt_and_mean_rating(place: Path) -> None:
    found = list(rated_images(str(place)))
    assert [(image.request_id, image.prompt, image.rating) for image in found] == [("r-1", "a red heart", 4.5), ("r-2", "", 1.0)]


def test_files_that_are_still_written_are_not_read(place: Path) -> None:
    (place / "events" / "day=2026-01-01" / ".part-1.inprogress").write_bytes(b"half")
    assert len(list(rated_images(str(place)))) == 2


def test_only_what_people_liked_is_a_sample(place: Path) -> None:
    (item,) = FeedbackSource(str(place), minimum_rating=4.0, store="file:///objects").items()
    assert (item.path, item.captions, item.author) == ("/objects/images/acme/r-1/0.png", ("a red heart",), "tenant acme")
    assert item.source == "request r-1, model emoji 3"
