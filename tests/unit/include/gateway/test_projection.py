from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from include.client.reader import Record
from include.contracts.errors import Reason, ReasonCode
from include.contracts.events import ImageResult, Lane, Progress, State, StatusEvent, event_id
from include.contracts.requests import GenerationRequest, ServiceClass
from include.gateway.projection import ACCEPTED, KEEP_S, Acceptance, Projection

TOPIC = "atelier.events"


@pytest.fixture
def projection(tmp_path: Path) -> Any:
    made = Projection(tmp_path / "requests.sqlite")
    yield made
    made.close()


def event(state: State, *, request_id: str = "r1", tenant: str = "acme", attempt: int = 0, step: int = 0, **fields: Any) -> StatusEvent:
    identifier = event_id(request_id, state, attempt, step)
    return StatusEvent(event_id=identifier, request_id=request_id, tenant=tenant, state=state, attempt=attempt, **{"at": 10.0, **fields})


def apply(projection: Projection, *events: StatusEvent | bytes | None, start: int = 0, cluster: str = "c1") -> set[str]:
    values = [found.to_json() if isinstance(found, StatusEvent) else found for found in events]
    records = [Record(value=value, partition=0, offset=start + number) for number, value in enumerate(values)]
    return projection.apply(cluster, TOPIC, records)


def request(prompt: str = "red apple", tenant: str = "acme") -> GenerationRequest:
    return GenerationRequest(request_id="r1", tenant=tenant, prompt=prompt)


def test_the_status_is_what_the_newest_event_says_and_what_earlier_ones_said_for_good(projection: Projection) -> None:
    image = ImageResult(
        index=0, key="images/acme/r1/0.png", sha256="0" * 64, size_bytes=9, width=64, height=64, seed=1, media_type="image/png"
    )
    apply(
        projection,
        event(State.QUEUED, lane=Lane.HIGH, position=3, at=1.0),
        event(State.PROCESSING, attempt=1, model="emoji", model_version="2", at=2.0),
        event(State.PROCESSING, attempt=1, step=4, progress=Progress(step=4, steps=8), at=3.0),
        event(State.COMPLETED, attempt=1, images=(image,), waited_s=1.0, at=4.0),
    )
    status = projection.status("r1", "acme")
    assert status is not None
    assert (status["state"], status["lane"], status["model_version"], status["waited_s"]) == ("Completed", "high", "2", 1.0)
    assert "position" not in status and "progress" not in status
    assert (status["queued_at"], status["ended_at"]) == (1.0, 4.0)
    assert status["images"][0]["key"] == "images/acme/r1/0.png"


def test_a_repeated_event_changes_nothing(projection: Projection) -> None:
    assert apply(projection, event(State.QUEUED)) == {"r1"}
    assert apply(projection, event(State.PROCESSING, attempt=1), start=1) == {"r1"}
    assert apply(projection, event(State.QUEUED), start=2) == set()
    assert projection.status("r1", "acme")["state"] == "Processing"  # type: ignore[index]
    assert len(projection.events_after("r1", 0)) == 2


@pytest.mark.parametrize("late", [State.PROCESSING, State.FAILED, State.QUEUED])
def test_a_terminal_state_is_never_left(projection: Projection, late: State) -> None:
    apply(projection, event(State.COMPLETED), event(late, attempt=2))
    assert projection.status("r1", "acme")["state"] == "Completed"  # type: ignore[index]
    assert [found.body["state"] for found in projection.events_after("r1", 0)] == ["Completed"]


def test_another_tenant_sees_nothing(projection: Projection) -> None:
    apply(projection, event(State.QUEUED))
    assert projection.status("r1", "globex") is None
    assert projection.recent("globex", 10) == []
    assert [found["request_id"] for found in projection.recent("acme", 10)] == ["r1"]


def test_the_offsets_go_with_the_events_and_belong_to_one_cluster(projection: Projection) -> None:
    apply(projection, event(State.QUEUED), b"not an event", None, start=5)
    assert projection.offsets("c1", TOPIC) == {0: 8}
    assert projection.offsets("another-cluster", TOPIC) == {}


def test_a_failing_batch_leaves_neither_events_nor_offsets(projection: Projection, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("include.gateway.projection.fold_status", full)
    with pytest.raises(OSError, match="disk full"):
        apply(projection, event(State.QUEUED))
    assert projection.offsets("c1", TOPIC) == {}
    assert projection.events_after("r1", 0) == []


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    first = Projection(tmp_path / "requests.sqlite")
    apply(first, event(State.QUEUED))
    first.close()
    second = Projection(tmp_path / "requests.sqlite")
    assert second.offsets("c1", TOPIC) == {0: 1}
    assert second.status("r1", "acme")["state"] == "Queued"  # type: ignore[index]
    second.close()


def test_acceptance(projection: Projection) -> None:
    assert projection.accept(request(), "d1", ServiceClass.REALTIME, 1.0) is Acceptance.NEW
    assert projection.status("r1", "acme")["state"] == ACCEPTED  # type: ignore[index]
    # Not acknowledged: the first attempt may have failed, so the repeat must be sent.
    assert projection.accept(request(), "d1", ServiceClass.REALTIME, 2.0) is Acceptance.NEW
    projection.acknowledge("r1")
    assert projection.accept(request(), "d1", ServiceClass.REALTIME, 3.0) is Acceptance.REPEAT
    assert projection.accept(request("blue car"), "d2", ServiceClass.REALTIME, 3.0) is Acceptance.DIFFERENT
    assert projection.accept(request(tenant="globex"), "d1", ServiceClass.REALTIME, 3.0) is Acceptance.TAKEN


def test_an_id_that_came_by_kafka_is_taken_too(projection: Projection) -> None:
    apply(projection, event(State.QUEUED, tenant="globex"))
    assert projection.accept(request(), "d1", ServiceClass.REALTIME, 1.0) is Acceptance.TAKEN


def test_the_router_decides_whose_an_id_is(projection: Projection) -> None:
    projection.accept(request(), "d1", ServiceClass.REALTIME, 1.0)
    projection.acknowledge("r1")
    apply(projection, event(State.QUEUED, tenant="globex"))
    assert projection.status("r1", "acme") is None
    assert projection.status("r1", "globex") is not None


def test_a_refusal_of_another_tenants_copy_does_not_touch_the_owner(projection: Projection) -> None:
    reason = Reason(code=ReasonCode.ID_TAKEN, message="taken")
    apply(projection, event(State.QUEUED), event(State.REFUSED, tenant="globex", reason=reason))
    assert projection.status("r1", "acme")["state"] == "Queued"  # type: ignore[index]


def test_old_requests_are_forgotten_with_their_events(projection: Projection) -> None:
    apply(projection, event(State.COMPLETED, at=10.0), event(State.QUEUED, request_id="r2", at=KEEP_S))
    assert projection.prune(now=KEEP_S + 11) == 1
    assert projection.status("r1", "acme") is None
    assert projection.events_after("r1", 0) == []
    assert projection.status("r2", "acme") is not None
