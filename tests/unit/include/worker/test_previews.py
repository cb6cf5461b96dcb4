from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from include.contracts.objects import preview_key
from include.storage import StoreUnavailable
from include.storage.directory import DirectoryStore
from include.worker.previews import AT_MOST, PreviewWriter, encode_preview
from tests.support.leases import lease_of, render_task
from tests.support.waiting import wait_for


class GatedStore(DirectoryStore):
    """Writes only while the gate is open."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.gate = threading.Event()
        self.gate.set()

    def put(self, key: str, data: bytes, media_type: str) -> None:
        assert self.gate.wait(10)
        super().put(key, data, media_type)


@pytest.fixture
def store(tmp_path: Path) -> GatedStore:
    return GatedStore(tmp_path)


@pytest.fixture
def writer(store: GatedStore) -> Iterator[PreviewWriter]:
    writer = PreviewWriter(store)
    yield writer
    store.gate.set()
    writer.close(10)


def test_the_newest_preview_is_a_small_jpeg_under_the_requests_key(writer: PreviewWriter, store: GatedStore) -> None:
    task = render_task()
    key = preview_key(task.tenant, task.request_id)
    for colour in ("red", "blue"):
        writer.offer("l-1", [task], [Image.new("RGB", (256, 128), colour)])
    wait_for(lambda: store.head(key) and writer.take_written("l-1") == [key], 10, "the preview")
    wait_for(lambda: Image.open(io.BytesIO(store.get(key))).getpixel((5, 5))[2] > 200, 10, "the newer preview")  # type: ignore[index]
    image = Image.open(io.BytesIO(store.get(key)))
    assert (image.format, image.size) == ("JPEG", (64, 32))


def test_a_store_that_is_away_costs_previews_and_nothing_else(
    writer: PreviewWriter, store: GatedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = store.put

    def away(*_: object) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(store, "put", away)
    lost, shown = render_task(), render_task()
    writer.offer("l-1", [lost], [Image.new("RGB", (8, 8))])
    wait_for(lambda: writer.idle, 10, "the writer tried")
    monkeypatch.setattr(store, "put", put)
    writer.offer("l-1", [shown], [Image.new("RGB", (8, 8))])
    wait_for(lambda: store.head(preview_key("acme", shown.request_id)), 10, "the preview")
    assert store.head(preview_key("acme", lost.request_id)) is None


def test_what_would_pile_up_is_dropped(writer: PreviewWriter, store: GatedStore) -> None:
    store.gate.clear()
    tasks = [render_task() for _ in range(AT_MOST + 10)]
    writer.offer("l-1", tasks, [Image.new("RGB", (8, 8))] * len(tasks))
    assert writer.busy and writer.dropped >= 9


def test_it_ends_however_much_waits(writer: PreviewWriter, store: GatedStore) -> None:
    store.gate.clear()
    tasks = [render_task() for _ in range(AT_MOST + 10)]
    writer.offer("l-1", tasks, [Image.new("RGB", (8, 8))] * len(tasks))
    closing = threading.Thread(target=writer.close, args=(60,))
    closing.start()
    store.gate.set()
    closing.join(30)
    assert not closing.is_alive()
    assert len(list(store.list("previews/"))) == len(tasks) - writer.dropped


def test_previews_go_with_their_lease(writer: PreviewWriter, store: GatedStore) -> None:
    over, running = render_task(), render_task()
    for task in (over, running):
        writer.offer(task.request_id, [task], [Image.new("RGB", (8, 8))])
    wait_for(lambda: len(list(store.list("previews/"))) == 2, 10, "both previews")
    writer.discard(lease_of(over, lease_id=over.request_id))
    wait_for(lambda: list(store.list("previews/")) == [preview_key("acme", running.request_id)], 10, "one preview deleted")
    assert writer.take_written(over.request_id) == []


def test_a_preview_that_comes_too_late_is_not_written(writer: PreviewWriter, store: GatedStore) -> None:
    task, last = render_task(), render_task()
    store.gate.clear()
    writer.offer("l-0", [render_task()], [Image.new("RGB", (8, 8))])
    writer.offer("l-1", [task], [Image.new("RGB", (8, 8))])
    writer.discard(lease_of(task, lease_id="l-1"))
    writer.offer("l-2", [last], [Image.new("RGB", (8, 8))])
    store.gate.set()
    wait_for(lambda: store.head(preview_key("acme", last.request_id)), 10, "the last preview")
    assert store.head(preview_key("acme", task.request_id)) is None


def test_a_small_image_stays_as_it_is() -> None:
    assert Image.open(io.BytesIO(encode_preview(Image.new("RGBA", (20, 10))))).size == (20, 10)
