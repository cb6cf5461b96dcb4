from __future__ import annotations

import pytest

from include.contracts.dead_letters import DeadLetter, encode_original
from include.contracts.errors import Reason, ReasonCode
from include.contracts.events import Progress
from include.contracts.workers import Credit, Goodbye, Hello, RenderProgress, Started
from include.demo.observer import RenderView, WorkerView, update_renders, update_worker

WORKER = {"worker_id": "worker-0", "incarnation": "i1", "cell": "cell-0", "pool": "standard"}


@pytest.mark.parametrize("original", [None, b"", b"\xff\x00"])
def test_a_dead_letter_comes_back_as_it_was_sent(original: bytes | None) -> None:
    reason = Reason(code=ReasonCode.INVALID_MESSAGE, message="no value")
    letter = DeadLetter(source_topic="requests.batch", at=1.0, reason=reason, original=encode_original(original))
    assert DeadLetter.from_json(letter.to_json()) == letter
    assert DeadLetter.from_json(letter.to_json()).original_bytes() == original


@pytest.mark.parametrize("value", [b"", b"nonsense", b"[]", b"{}"])
def test_what_is_no_dead_letter_raises(value: bytes) -> None:
    with pytest.raises(ValueError):
        DeadLetter.from_json(value)


def test_a_worker_is_what_its_messages_say() -> None:
    view = WorkerView("worker-0", "standard")
    update_worker(view, Hello(**WORKER, at=1.0, warm_models=("emoji/1",)))
    update_worker(view, Started(**WORKER, at=2.0, lease_id="l1"))
    update_worker(view, Credit(**WORKER, at=2.1, held=("l1", "l2"), warm_models=("emoji/1", "emoji/2")))
    assert (view.busy_with, view.held, view.warm) == ("l1", 2, ("emoji/1", "emoji/2"))
    update_worker(view, Credit(**WORKER, at=3.0))
    assert (view.busy_with, view.held, view.gone) == ("", 0, False)
    update_worker(view, Goodbye(**WORKER, at=4.0))
    assert view.gone
    update_worker(view, Hello(**{**WORKER, "incarnation": "i2"}, at=5.0))
    assert not view.gone


def test_a_render_is_followed_from_its_start_until_its_worker_lets_go() -> None:
    renders: dict[str, RenderView] = {}
    update_renders(renders, Started(**WORKER, at=10.0, lease_id="l1"))
    assert renders["l1"].step_s is None
    update_renders(renders, RenderProgress(**WORKER, at=12.0, lease_id="l1", progress=Progress(step=40, steps=200)))
    update_renders(renders, Credit(**WORKER, at=12.5, held=("l1",)))
    update_renders(renders, Credit(**{**WORKER, "worker_id": "worker-1"}, at=12.6))
    assert (renders["l1"].step, renders["l1"].step_s, renders["l1"].freed_at) == (40, 0.05, None)
    for at in (13.0, 14.0):
        update_renders(renders, Credit(**WORKER, at=at))
    assert renders["l1"].freed_at == 13.0, "the first of them"
