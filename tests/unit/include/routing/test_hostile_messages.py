"""Whatever arrives on whatever topic: it is taken or refused with its bytes, what goes out can be read, and the cell serves on."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from include.contracts.dead_letters import DeadLetter
from include.contracts.defaults import default_policy
from include.contracts.dispatch import dispatch_messages
from include.contracts.errors import ReasonCode
from include.contracts.events import SharesEvent, StatusEvent
from include.contracts.objects import image_key
from include.contracts.requests import ImageFormat, ServiceClass
from include.routing.router import Outgoing, Router
from include.scheduling.scheduler import Scheduler
from include.scheduling.store import MemoryStore
from tests.unit.include.scheduling.harness import CELL, POOL, START, route

IDENTITY = {"worker_id": "w-0", "incarnation": "i-1", "cell": CELL, "pool": POOL, "at": START}
VERSION = {"name": "emoji", "version": "1", "digest": "0" * 64, "source": "mlflow-artifacts:/1"}
USAGE = {"gpu_seconds": 1.0, "render_s": 1.0, "steps": 4, "backend": "b", "device": "d", "cache_hits": ["prompt"], "notes": ["n"]}
REASON = {"code": "render_failed", "message": "the pipeline raised", "field": "prompt", "retry_after_s": 1.0}

#: JSON that somebody may put anywhere, by mistake or to see what happens.
BAD_VALUES = (
    *("NaN", "Infinity", "-Infinity", "1e308", "-1e308", "1e400", "1e-308", "5e-324"),
    *("-1", "0", "64", "1000000000", str(2**63), str(2**64), "1" + 400 * "0", "0.5", "true", "null"),
    *('""', '"a\\nb"', '"a\\n"', '"a b"', '"\\u0000"', '"\\ud800"', '"\\u202e"', '"\\u001e\\u001f"', '"🐻"', f'"{3000 * "x"}"'),
    *('".."', '"../../x"', '"a{b=\\"c\\"}"', "[]", '["a b", "", ""]', '["x", "x"]', "{}", f"[{','.join(2000 * ['1'])}]"),
    150 * "[" + 150 * "]",
)


def text(message: Any) -> str:
    return json.dumps(message)


def set_up(store: MemoryStore | None = None) -> Router:
    return Router(Scheduler(cell=CELL, pools=frozenset({POOL}), store=store or MemoryStore()))


@pytest.fixture
def router() -> Router:
    """Model ``emoji`` in service; worker w-0 has a lease on r-0, and r-1 waits."""
    router = set_up()
    sent = [*router.control(route().to_json().decode(), START)]
    sent += router.worker(text({"kind": "hello", **IDENTITY, "slots": 1}), START)
    for name in ("r-0", "r-1"):
        sent += router.request(text({"request_id": name, "tenant": "acme", "prompt": "x"}), ServiceClass.REALTIME, START)
    read(sent)
    return router


def read(sent: Iterable[Outgoing]) -> list[Any]:
    """What went out, as its consumers read it."""
    return [_read(topic, content) for topic, content in sent]


def _read(topic: str, content: str) -> Any:
    if topic.startswith("dispatch"):
        return dispatch_messages.validate_json(content)
    if topic == "events":
        return (SharesEvent if json.loads(content).get("kind") == "shares" else StatusEvent).from_json(content)
    return DeadLetter.from_json(content)


def only_letter(sent: Iterable[Outgoing]) -> DeadLetter:
    (letter,) = (one for one in read(sent) if isinstance(one, DeadLetter))
    return letter


def spoiled(message: dict[str, Any]) -> Iterator[str]:
    """The message with each of its fields, however deep, replaced by each bad value."""
    for path in _paths(message):
        for value in BAD_VALUES:
            changed = inner = copy.deepcopy(message)
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = "@"
            yield json.dumps(changed).replace('"@"', value, 1).encode().decode("latin-1")


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, one in inner:
        yield (*path, key)
        yield from _paths(one, (*path, key))


def is_answered(router: Router, asked: str, service_class: ServiceClass, at: float) -> bool:
    """At once, or held in silence while the control topic may still name its model."""
    before = len(router.scheduler.entries())
    return bool(read(router.request(asked, service_class, at))) or len(router.scheduler.entries()) > before


def serves_on(router: Router, at: float) -> None:
    """A new worker gets a new request, also from a scheduler that goes on from the store."""
    for again in (router, set_up(router.scheduler._cell.store)):
        read([*again.control(route().to_json().decode(), at), *again.control(default_policy().to_json().decode(), at)])
        read(
            [
                *again.worker(
                    text({"kind": "hello", **IDENTITY, "worker_id": f"w-{at}", "incarnation": "i-9", "slots": 64, "max_batch": 20}), at
                ),
                *again.tick(at),
            ]
        )
        sent = again.request(text({"request_id": f"new-{at}", "tenant": "new", "prompt": "x"}), ServiceClass.REALTIME, at)
        assert [one.state for one in read(sent) if isinstance(one, StatusEvent)] == ["Queued", "Processing"]
        at += 1


def workers_messages() -> list[dict[str, Any]]:
    lease = {**IDENTITY, "lease_id": "lease-0"}
    image = {"index": 0, "key": image_key("acme", "r-0", 0, ImageFormat.PNG), "sha256": "1" * 64, "size_bytes": 1, "width": 32}
    image |= {"height": 32, "seed": 1, "media_type": "image/png", "flags": ["a"]}
    room = {"slots": 1, "max_batch": 2, "warm_models": ["emoji/1"]}
    load = {"free_memory_mb": 1.0, "utilisation": 0.5, "gpu_utilisation": 0.5, "temperature_c": 1, "parked": 0}
    return [
        {"kind": "hello", **IDENTITY, "device": "cpu", **room},
        {"kind": "credit", **IDENTITY, **room, **load, "held": ["lease-0", "lease-1"], "refused_models": ["emoji/1"]},
        {"kind": "started", **lease},
        {"kind": "progress", **lease, "progress": {"step": 1, "steps": 4, "previews": ["p"]}},
        {"kind": "failed", **lease, "request_id": "r-0", "reason": REASON, "retryable": True, "render_s": 1.0},
        {"kind": "completed", **lease, "request_id": "r-0", "model_version": "1", "images": [image], "usage": USAGE, "degraded": ["x"]},
        {"kind": "goodbye", **IDENTITY, "handed_back": ["lease-0"]},
    ]


def control_messages() -> list[dict[str, Any]]:
    policy = json.loads(default_policy().to_json())
    policy["pools"] = {POOL: {"price": 1, "tiers": ["free"], "lanes": ["normal"], "max_pixels": 5000, "models": ["emoji"]}}
    canary = {"challenger": {**VERSION, "version": "2"}, "share": 0.5}
    quota = {"rate": 1, "burst_s": 10, "max_queued": 5, "max_running": 5, "weight": 1}
    scenario = {"kind": "scenario", "name": "s", "model": "emoji", "prompt_template": "{prompt}", "negative_prompt": "x", "retired": False}
    return [
        {**json.loads(route().to_json()), "previous": VERSION, "canary": canary, "distilled": "d", "by": "me"},
        {**scenario, "steps": 4, "guidance": 1.0, "width": 32, "height": 32, "at": START},
        policy,
        {"kind": "tenant_quota", "tenant": "acme", "at": START, "quota": quota},
        {"kind": "cancel", "request_id": "r-1", "tenant": "acme", "at": START},
    ]


REQUEST = {
    **{"request_id": "q", "tenant": "acme", "tier": "free", "prompt": "p", "negative_prompt": "n", "model": "emoji"},
    **{"width": 32, "height": 32, "steps": 4, "guidance": 1.0, "images": 1, "seed": 1, "adapters": [{"name": "a", "weight": 1.0}]},
    **{"init_image": "inputs/acme/x", "strength": 0.5, "image_format": "png", "deadline_at": START + 50, "created_at": START},
    **{"allow_degradation": True, "pools": [POOL], "exclude_pools": ["x"], "trace_id": "t", "schema_version": 1},
}


@pytest.mark.parametrize("message", workers_messages(), ids=lambda message: message["kind"])
def test_no_value_in_a_workers_message_stops_the_cell(router: Router, message: dict[str, Any]) -> None:
    lease_id = next(iter(router.scheduler.leases()))
    for number, one in enumerate(spoiled(message)):
        read(router.worker(one.replace("lease-0", lease_id), START + number / 1000))
    serves_on(router, START + 60)


@pytest.mark.parametrize("message", control_messages(), ids=lambda message: message["kind"])
def test_no_value_in_a_control_message_stops_the_cell(router: Router, message: dict[str, Any]) -> None:
    """Each is followed by what it may have made impossible: a request of the tenant, and a tick."""
    for number, one in enumerate(spoiled(message)):
        at = START + number / 1000
        read(router.control(one, at))
        asked = {"request_id": f"n-{number}", "tenant": "acme", "prompt": "x"}
        assert is_answered(router, text(asked), ServiceClass.REALTIME, at)
        read(router.tick(at))
    serves_on(router, START + 60)


@pytest.mark.parametrize("service_class", ServiceClass)
def test_no_value_in_a_request_stops_the_cell_and_each_is_answered(router: Router, service_class: ServiceClass) -> None:
    for number, one in enumerate(spoiled(REQUEST)):
        assert is_answered(router, one, service_class, START + number / 1000)
    serves_on(router, START + 60)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("deadline_at", "NaN", "finite"),
        ("deadline_at", "Infinity", "finite"),
        ("deadline_at", "-1", "greater than or equal to 0"),
        ("deadline_at", "1e308", "less than or equal to 100000000000"),
        ("width", "1e308", "integer"),
        ("images", "1000000", "less than or equal to 16"),
        ("request_id", '"r-1\\n"', "match pattern"),
        ("request_id", f'"{129 * "r"}"', "at most 128"),
        ("tenant", '"acme\\",lane=\\"high"', "match pattern"),
        ("tenant", '"acme.lane.high.depth\\n"', "match pattern"),
        ("prompt", 150 * "[" + 150 * "]", "valid string"),
    ],
)
def test_an_absurd_request_is_refused_with_its_field_and_its_bytes(router: Router, field: str, value: str, words: str) -> None:
    given = json.dumps({"request_id": "q", "tenant": "acme", "prompt": "x"} | {field: "@"}).replace('"@"', value, 1)
    letter = only_letter(router.request(given, ServiceClass.REALTIME, START))
    assert (letter.reason.code, letter.reason.field) == (ReasonCode.INVALID_FIELD, field)
    assert words in letter.reason.message
    assert letter.original_bytes() == given.encode()


def test_of_a_field_given_twice_the_last_counts_everywhere(router: Router) -> None:
    """As in Python's and Java's readers, so nobody is shown another tenant than the one who is charged."""
    given = '{"request_id": "q", "tenant": "globex", "prompt": "x", "tenant": "acme"}'
    (event,) = read(router.request(given, ServiceClass.REALTIME, START))
    assert event.tenant == json.loads(given)["tenant"] == "acme"


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"kind": "hello", "slots": 10**9}, "hello.slots"),
        ({"kind": "credit", "slots": 1, "max_batch": 10**9}, "credit.max_batch"),
        ({"kind": "credit", "slots": -1}, "credit.slots"),
        ({"kind": "credit", "held": ["a b"]}, "credit.held.0"),
        ({"kind": "credit", "held": ["lease\n"]}, "credit.held.0"),
        ({"kind": "credit", "at": 1e12}, "credit.at"),
        ({"kind": "progress", "lease_id": "x", "progress": {"step": 10**300, "steps": 4}}, "progress.progress.step"),
    ],
)
def test_a_worker_that_claims_too_much_is_told_which_field(router: Router, fields: dict[str, Any], wrong: str) -> None:
    given = text({**IDENTITY, **fields})
    letter = only_letter(router.worker(given, START))
    assert (letter.source_topic, letter.reason.field) == ("workers", wrong)
    assert letter.original_bytes() == given.encode()
    assert len(router.scheduler.leases()) == 1


def test_what_a_worker_says_of_leases_that_nobody_gave_changes_nothing(router: Router) -> None:
    (lease_id,) = router.scheduler.leases()
    fenced = router.scheduler.stats.fenced
    completed, failed = workers_messages()[5], workers_messages()[4]
    for message in (completed | {"lease_id": "nobodys"}, failed | {"lease_id": "nobodys"}, completed | {"request_id": "nobodys"}):
        assert read(router.worker(text(message), START)) == []
    assert router.scheduler.stats.fenced == fenced + 3
    assert list(router.scheduler.leases()) == [lease_id]


@pytest.mark.parametrize("at", [0.0, START - 1e5, START + 1e9, 1e11])
def test_a_workers_clock_is_never_believed(router: Router, at: float) -> None:
    """A heartbeat from the past or the future counts when it comes."""
    (lease_id,) = router.scheduler.leases()
    read(router.worker(text({"kind": "credit", **IDENTITY, "at": at, "slots": 2, "held": [lease_id]}), START + 1))
    assert router.scheduler.live_workers(START + 1.0) == 1
    assert router.scheduler.live_workers(START + 10.0) == 0
    assert len(router.scheduler.leases()) == 2


def changed(**fields: Any) -> dict[str, Any]:
    return {**json.loads(default_policy().to_json()), **fields}


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (changed(lanes=[*changed()["lanes"], {**changed()["lanes"][0], "lane": "low"}]), "two rules"),
        (changed(lanes=changed()["lanes"][1:]), "has no rule without max_gpu_s"),
        (changed(lane_floor={"high": 0.5, "normal": 0.3, "low": 0.2}), "below 1 together"),
        (changed(lane_floor={"high": -0.1, "normal": 0.3, "low": 0.2}), "at least 0"),
        (changed(lane_floor={"high": 0.5, "normal": 0.3}), "each of high, normal, low"),
        (changed(lane_bound_s={"high": 0, "normal": 1, "low": 1}), "positive number"),
        (changed(lane_bound_s={"high": float("inf"), "normal": 1, "low": 1}), "finite"),
        (changed(lane_objective_s={"high": float("nan"), "normal": 1, "low": 1}), "finite"),
        (changed(ladder=[{"steps": 0.5}, {"steps": 0.75}]), "rung 2 gives more quality than rung 1"),
        (changed(quotas={"free": changed()["quotas"]["free"]}), "each of free, pro, enterprise"),
        (changed(lease_s=0.01), "greater than or equal to 1"),
        (changed(max_attempts=0), "greater than or equal to 1"),
        (changed(batch_s=0), "greater than 0"),
        (changed(fairness="please"), "unknown field"),
        (changed(schema_version=2), "send schema_version 1"),
        ({"kind": "tenant_quota", "tenant": "acme", "at": START, "quota": {"rate": 5e-324, "burst_s": 1, "max_queued": 1}}, "0.000001"),
        ({**json.loads(route().to_json()), "canary": {"challenger": VERSION, "share": 1.0}}, "less than 1"),
    ],
)
def test_a_control_message_that_contradicts_itself_is_refused_with_the_reason(router: Router, message: dict[str, Any], words: str) -> None:
    before = router.scheduler._cell.catalog.policy
    letter = only_letter(router.control(json.dumps(message), START))
    assert words in letter.reason.message
    assert (letter.source_topic, letter.original_bytes()) == ("control", json.dumps(message).encode())
    assert router.scheduler._cell.catalog.policy is before
    serves_on(router, START + 1)
