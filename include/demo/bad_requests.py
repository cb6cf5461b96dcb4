"""Every way in which a message can be wrong, once, with the reason that it must get."""

from __future__ import annotations

import json
from typing import Any

from include.contracts.errors import ReasonCode
from include.contracts.requests import ServiceClass, Tier
from include.demo.planned import Planned, Way, gateway_body, kafka_value

TENANT, OTHER_TENANT = "globex", "initech"
FIELD = ReasonCode.INVALID_FIELD

#: What is wrong → fields over a good request, reason.
WRONG_FIELDS: dict[str, tuple[dict[str, Any], ReasonCode]] = {
    "no prompt": ({"prompt": None}, FIELD),
    "a model that nobody serves": ({"model": "no-such-model"}, ReasonCode.UNKNOWN_MODEL),
    "a scenario that nobody offers": ({"scenario": "no-such-scenario"}, ReasonCode.UNKNOWN_SCENARIO),
    "a size of 0": ({"width": 0, "height": 64}, FIELD),
    "a size of 7": ({"width": 7, "height": 64}, FIELD),
    "a size of 10⁹": ({"width": 10**9, "height": 64}, FIELD),
    "a size that the model does not do": ({"width": 2048, "height": 2048}, ReasonCode.UNSUPPORTED_SHAPE),
    "-1 steps": ({"steps": -1}, FIELD),
    "NaN guidance": ({"guidance": float("nan")}, FIELD),
    "a prompt of 1 MB": ({"prompt": "very " * 200_000 + "large"}, FIELD),
    "control characters": ({"prompt": "red\u0000apple\u0007"}, FIELD),
    "a schema version of the future": ({"schema_version": 99}, ReasonCode.UNSUPPORTED_SCHEMA),
}


def bad_requests(run: str, repeated: Planned) -> list[Planned]:
    """All of them; ``repeated`` is a good Kafka request that was sent before."""
    numbered = enumerate(WRONG_FIELDS.items())
    fields = [_with_wrong_fields(f"{run}-bad-{number:02}", label, *case) for number, (label, case) in numbered]
    return [*fields, *_unreadable(run), *_stolen_ids(repeated), *_by_gateway(run)]


def _with_wrong_fields(request_id: str, label: str, changes: dict[str, Any], expected: ReasonCode) -> Planned:
    good = {"prompt": "red apple"}
    kept = {name: value for name, value in {**good, **changes}.items() if value is not None}
    value = kafka_value(request_id, TENANT, Tier.PRO, kept)
    return _bad(label, value, expected, request_id=request_id)


def _unreadable(run: str) -> list[Planned]:
    """Their bytes name the run, so that their dead letters can be told from those of other runs."""
    name = run.encode()
    return [
        _bad("not JSON", b"please, a red apple for " + name, ReasonCode.INVALID_MESSAGE),
        _bad("JSON, but no object", json.dumps([run]).encode(), FIELD),
        _bad("no value at all", None, ReasonCode.INVALID_MESSAGE),
        _bad("invalid UTF-8", b'{"prompt": "\xff\xfe\xc3\x28", "run": "' + name + b'"}', ReasonCode.INVALID_MESSAGE),
    ]


def _stolen_ids(repeated: Planned) -> list[Planned]:
    """They carry the key of the first, so that Kafka keeps them behind it."""
    assert repeated.request_id is not None
    stolen = kafka_value(repeated.request_id, OTHER_TENANT, Tier.FREE, {"prompt": "somebody else's picture"})
    common = {"service_class": repeated.service_class, "key": repeated.key}
    return [
        _bad("an id sent twice", repeated.value, ReasonCode.DUPLICATE_ID, **common),
        _bad("an id of another tenant", stolen, ReasonCode.ID_TAKEN, tenant=OTHER_TENANT, **common),
    ]


def _by_gateway(run: str) -> list[Planned]:
    first, second = f"{run}-bad-http-0", f"{run}-bad-http-1"
    wrong_steps = gateway_body(first, {"prompt": "red apple", "steps": -1})
    wrong_model = gateway_body(second, {"prompt": "red apple", "model": "no-such-model"})
    return [
        _bad("-1 steps, by HTTP", wrong_steps, FIELD, request_id=first, way=Way.GATEWAY),
        _bad("a model that nobody serves, by HTTP", wrong_model, ReasonCode.UNKNOWN_MODEL, request_id=second, way=Way.GATEWAY),
    ]


def _bad(label: str, value: bytes | None, expected: ReasonCode, **changes: Any) -> Planned:
    usual = {"way": Way.KAFKA, "service_class": ServiceClass.REALTIME, "tenant": TENANT, "tier": Tier.PRO, "key": changes.get("request_id")}
    return Planned(label=label, value=value, expected=expected, **{**usual, **changes})
