"""Only what MLflow signed lately wakes the watcher."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from mlflow.webhooks.delivery import _generate_hmac_signature

from include.registry.webhook import DELIVERY, MAX_AGE_S, MAX_BODY_BYTES, SIGNATURE, TIMESTAMP, WebhookReceiver, is_genuine

BODY = '{"entity": "model_version_alias"}'


def signed(secret: str, body: str = BODY, at: float | None = None) -> dict[str, str]:
    """As MLflow's own code signs."""
    stamp = str(int(time.time() if at is None else at))
    return {DELIVERY: "d-1", TIMESTAMP: stamp, SIGNATURE: _generate_hmac_signature(secret, "d-1", stamp, body)}


@pytest.fixture
def woken() -> threading.Event:
    return threading.Event()


@pytest.fixture
def receiver(woken: threading.Event) -> Iterator[WebhookReceiver]:
    with WebhookReceiver(woken.set) as found:
        yield found


def test_a_genuine_delivery_wakes(receiver: WebhookReceiver, woken: threading.Event) -> None:
    assert httpx.post(receiver.url, content=BODY, headers=signed(receiver.secret)).status_code == 204
    assert woken.is_set()


@pytest.mark.parametrize(
    ("path", "headers", "body", "status"),
    [
        ("", {}, BODY, 401),
        ("", signed("another"), BODY, 401),
        ("", {TIMESTAMP: "now", SIGNATURE: "v1,x"}, BODY, 401),
        ("", {}, "x" * (MAX_BODY_BYTES + 1), 413),
        ("/else", {}, BODY, 404),
    ],
)
def test_anything_else_does_not(
    receiver: WebhookReceiver, woken: threading.Event, path: str, headers: dict[str, str], body: str, status: int
) -> None:
    assert httpx.post(receiver.url + path, content=body, headers=headers).status_code == status
    assert not woken.is_set()


def test_a_changed_body_and_an_old_delivery_are_not_genuine() -> None:
    now = 1_000_000.0
    assert is_genuine("s", signed("s", at=now), BODY.encode(), now)
    assert not is_genuine("s", signed("s", at=now), BODY.encode() + b" ", now)
    assert not is_genuine("s", signed("s", at=now), BODY.encode(), now + MAX_AGE_S + 1)
