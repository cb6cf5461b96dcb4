from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from include.contracts.dispatch import Lease
from include.contracts.objects import image_key, preview_key
from include.contracts.workers import Completed, Credit, WorkerMessage
from include.gateway.edge.book import LeaseBook
from include.gateway.edge.reports import MAX_REPORTS, ReportDesk, parse_reports
from include.gateway.errors import ApiError
from include.storage.directory import DirectoryStore
from tests.support.leases import lease_of, render_task

IDENTITY = {"worker_id": "w-1", "incarnation": "i-1", "cell": "cell-0", "pool": "edge"}


class Bench:
    def __init__(self, root: Path) -> None:
        self.store = DirectoryStore(root)
        self.book = LeaseBook("edge")
        self.desk = ReportDesk(worker_id="w-1", incarnation="i-1", cell="cell-0", book=self.book, store=self.store)
        self.mine = self.lease("w-1", 0)
        self.foreign = self.lease("w-2", 1)

    def lease(self, worker_id: str, offset: int) -> Lease:
        lease = lease_of(render_task(), worker_id=worker_id, pool="edge")
        self.book.note_dispatch("cluster", offset, lease)
        return lease

    def completed(self, lease: Lease, **image: Any) -> dict[str, Any]:
        task = lease.tasks[0]
        key = image_key(task.tenant, task.request_id, 0, task.image_format)
        stored = self.store.put_if_absent(key, b"\x89PNG...", "image/png")
        plain = {"index": 0, "key": key, "sha256": stored.sha256, "size_bytes": stored.size, "width": 16, "height": 16, "seed": 1}
        images = [{**plain, "media_type": "image/png", **image}]
        usage = {"gpu_seconds": 0.1, "render_s": 0.1, "steps": 4}
        names = {"lease_id": lease.lease_id, "request_id": task.request_id, "model_version": "1"}
        return {"kind": "completed", **IDENTITY, **names, "images": images, "usage": usage, "at": 1.0}

    def refused(self, report: Any) -> tuple[int, str | None]:
        with pytest.raises(ApiError) as caught:
            self.desk.check(report)
        return caught.value.status, caught.value.detail.field


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_an_honest_completion_passes_with_the_gateways_time_on_it(bench: Bench) -> None:
    message = bench.desk.check(bench.completed(bench.mine))
    assert isinstance(message, Completed)
    assert abs(message.at - time.time()) < 60


@pytest.mark.parametrize("name", sorted(IDENTITY))
def test_nobody_speaks_as_somebody_else(bench: Bench, name: str) -> None:
    assert bench.refused({**bench.completed(bench.mine), name: "other"}) == (403, name)


def test_nobody_speaks_of_anothers_lease(bench: Bench) -> None:
    foreign = bench.foreign.lease_id
    for report in (
        bench.completed(bench.foreign),
        {"kind": "started", **IDENTITY, "lease_id": foreign},
        {"kind": "progress", **IDENTITY, "lease_id": foreign, "progress": {"step": 1, "steps": 2}},
        {"kind": "failed", **IDENTITY, "lease_id": foreign, "reason": {"code": "render_failed", "message": "x"}},
    ):
        assert bench.refused(report) == (403, "lease_id")
    assert bench.refused({"kind": "credit", **IDENTITY, "held": [bench.mine.lease_id, foreign]}) == (403, "held")
    assert isinstance(bench.desk.check({"kind": "credit", **IDENTITY, "held": [bench.mine.lease_id, "long-forgotten"]}), Credit)


def test_a_request_of_another_lease_is_refused(bench: Bench) -> None:
    request_id = bench.foreign.tasks[0].request_id
    assert bench.refused({**bench.completed(bench.mine), "request_id": request_id}) == (403, "request_id")
    failed = {"kind": "failed", **IDENTITY, "lease_id": bench.mine.lease_id, "reason": {"code": "render_failed", "message": "x"}}
    assert bench.refused({**failed, "request_id": request_id}) == (403, "request_id")
    assert isinstance(bench.desk.check(failed), WorkerMessage)


@pytest.mark.parametrize(
    ("image", "status", "field"),
    [
        ({"key": "images/acme/other/0.png"}, 403, "images.0.key"),
        ({"index": 7}, 403, "images.7.key"),
        ({"media_type": "text/html"}, 403, "images.0.media_type"),
        ({"sha256": "0" * 64}, 422, "images.0"),
        ({"size_bytes": 9999}, 422, "images.0"),
    ],
)
def test_images_are_what_is_stored_where_it_belongs(bench: Bench, image: dict[str, Any], status: int, field: str) -> None:
    assert bench.refused(bench.completed(bench.mine, **image)) == (status, field)


def test_an_image_that_is_not_stored_does_not_complete(bench: Bench) -> None:
    report = bench.completed(bench.mine)
    bench.store.delete(report["images"][0]["key"])
    assert bench.refused(report) == (422, "images.0")


def test_previews_are_of_the_lease(bench: Bench) -> None:
    mine, foreign = (preview_key(lease.tasks[0].tenant, lease.tasks[0].request_id) for lease in (bench.mine, bench.foreign))
    report = {"kind": "progress", **IDENTITY, "lease_id": bench.mine.lease_id}
    assert bench.desk.check({**report, "progress": {"step": 1, "steps": 2, "previews": [mine]}})
    assert bench.refused({**report, "progress": {"step": 1, "steps": 2, "previews": [mine, foreign]}}) == (403, "progress.previews")


@pytest.mark.parametrize("report", [None, 7, "text", {}, {"kind": "credit"}, {"kind": "unheard-of", **IDENTITY}])
def test_what_is_no_worker_message_is_refused(bench: Bench, report: Any) -> None:
    assert bench.refused(report)[0] == 422


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b"[" * 100_000, json.dumps([0] * (MAX_REPORTS + 1)).encode()])
def test_a_body_that_is_no_short_array_is_refused(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        parse_reports(body)
    assert caught.value.status == 422


def test_held_leases_are_bounded(bench: Bench) -> None:
    assert bench.refused({"kind": "credit", **IDENTITY, "held": [f"l-{number}" for number in range(1000)]}) == (422, "held")
