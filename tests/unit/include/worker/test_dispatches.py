from __future__ import annotations

import json
from typing import Any

import pytest

from include.contracts.dispatch import Revoke
from include.contracts.errors import ReasonCode
from include.worker.dispatches import Unreadable, read_dispatch
from tests.support.leases import lease_of, render_task

LEASE = lease_of(render_task("r-0"))
BIG = 10**9


def read(message: Any) -> Any:
    return read_dispatch(message, worker_id="worker-0", incarnation="i-1")


def odd_lease(**changes: Any) -> dict[str, Any]:
    """A lease for this worker with other values; those of ``task`` are its first task's."""
    content = json.loads(LEASE.to_json())
    content["tasks"][0].update(changes.pop("task", {}))
    return {**content, **changes}


def test_what_keeps_its_contract_is_read_from_bytes_and_from_objects() -> None:
    revoke = Revoke(lease_id="l-1", worker_id="worker-9", pool="standard")
    for message in (LEASE, revoke):
        assert read(message.to_json()) == message == read(json.loads(message.to_json()))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"task": {"images": BIG}}, "lease.tasks.0.images"),
        ({"task": {"images": 0}}, "lease.tasks.0.images"),
        ({"task": {"steps": -1}}, "lease.tasks.0.steps"),
        ({"task": {"steps": BIG}}, "lease.tasks.0.steps"),
        ({"task": {"width": BIG}}, "lease.tasks.0.width"),
        ({"task": {"height": 17}}, "lease.tasks.0.height"),
        ({"task": {"guidance": float("nan")}}, "lease.tasks.0.guidance"),
        ({"task": {"guidance": float("-inf")}}, "lease.tasks.0.guidance"),
        ({"task": {"seed": 2**64}}, "lease.tasks.0.seed"),
        ({"task": {"prompt": "x" * 100_000}}, "lease.tasks.0.prompt"),
        ({"task": {"tenant": "ümlaut"}}, "lease.tasks.0.tenant"),
        ({"task": {"request_id": "../../etc/passwd"}}, "lease.tasks.0.request_id"),
        ({"task": {"init_image": "inputs/../secret.png"}}, "lease.tasks.0.init_image"),
        ({"task": {"surprise": 1}}, "lease.tasks.0.surprise"),
        ({"tasks": []}, "lease.tasks"),
        ({"lease_s": 0}, "lease.lease_s"),
        ({"lease_s": float("nan")}, "lease.lease_s"),
        ({"expires_at": 1e300}, "lease.expires_at"),
        ({"model": {"name": "模型", "version": "1", "digest": "0" * 64, "source": "x"}}, "lease.model.name"),
        ({"model": {"name": "tiny", "version": "1", "digest": "../" + "0" * 61, "source": "x"}}, "lease.model.digest"),
    ],
    ids=str,
)
@pytest.mark.parametrize("form", ["bytes", "objects"])
def test_a_lease_of_ours_that_breaks_its_contract_names_the_field(changes: dict[str, Any], field: str, form: str) -> None:
    content = odd_lease(**changes)
    found = read(json.dumps(content).encode() if form == "bytes" else content)
    assert isinstance(found, Unreadable) and found.lease_id == LEASE.lease_id
    assert (found.reason.code, found.reason.field) == (ReasonCode.INVALID_FIELD, field)
    assert field in found.reason.message and len(found.reason.message) <= 2000


def test_half_a_character_in_a_prompt_is_refused_too() -> None:
    found = read(json.dumps(odd_lease(task={"prompt": "heart"})).encode().replace(b'"heart"', b'"\\ud800"'))
    assert isinstance(found, Unreadable) and found.reason.code is ReasonCode.INVALID_MESSAGE


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"null",
        b"[" * 100_000,
        b'{"kind": "lease"}',
        {"kind": "lease", "worker_id": "worker-0", "incarnation": "i-1", "lease_id": "../x"},
        {"kind": "lease", "worker_id": ["worker-0"], "incarnation": "i-1", "lease_id": "l-1"},
        {"kind": "revoke", "worker_id": "worker-0", "incarnation": "i-1", "lease_id": "l-1"},
        odd_lease(task={"images": BIG}, worker_id="worker-9"),
        odd_lease(task={"images": BIG}, incarnation="earlier"),
        {**odd_lease(), "lease_id": None},
    ],
    ids=lambda message: str(message)[:40],
)
def test_what_is_no_lease_of_ours_is_skipped(message: Any) -> None:
    assert read(message) is None
