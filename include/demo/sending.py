"""Sends planned requests by their ways and keeps what the sender was told at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import httpx

from include.client.producer import INGRESS, Delivery, TopicProducer
from include.config import Settings
from include.demo.planned import Planned, Way
from include.gateway.keys import demo_keys


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the gateway answered."""

    status: int
    code: str = ""  #: of the error envelope
    message: str = ""


@dataclass
class Outbox:
    """What was sent when, and the gateway's answers; by position in the plan."""

    sent_at: dict[int, float] = field(default_factory=dict)
    replies: dict[int, Reply] = field(default_factory=dict)


class Sender:
    """Raises :class:`DeliveryError` or :class:`httpx.HTTPError` where a way in is closed."""

    def __init__(self, settings: Settings) -> None:
        self._producer = TopicProducer(settings)
        self._http = httpx.Client(base_url=settings.gateway, timeout=30)
        self._keys = demo_keys(settings.home)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._http.close()
        self._producer.close()

    def send(self, planned: Planned) -> Reply | None:
        """Returns once the message is durable or refused; the gateway's answer where it was asked."""
        if planned.way is Way.KAFKA:
            self._producer.put(INGRESS[planned.service_class], planned.value, planned.key)
            return None
        answer = self._http.post(
            "/v1/images",
            params={"service_class": planned.service_class},
            content=planned.value or b"",
            headers=self._authorization(planned),
        )
        error = answer.json().get("error", {})
        return Reply(status=answer.status_code, code=error.get("code", ""), message=error.get("message", ""))

    def post(self, planned: Planned) -> Future[Delivery]:
        """By Kafka, without waiting until it is durable."""
        return self._producer.post(INGRESS[planned.service_class], planned.value, planned.key)

    def send_all(self, plan: Iterable[Planned], outbox: Outbox, every_s: float) -> None:
        """One after another, at most one every ``every_s`` seconds."""
        pace = threading.Event()
        for number, planned in enumerate(plan):
            outbox.sent_at[number] = time.time()
            reply = self.send(planned)
            if reply is not None:
                outbox.replies[number] = reply
            pace.wait(max(0.0, outbox.sent_at[number] + every_s - time.time()))

    def preview(self, planned: Planned) -> httpx.Response:
        """How it looks to become, while it renders, for a tenant that has a key."""
        return self._http.get(f"/v1/requests/{planned.request_id}/preview", headers=self._authorization(planned))

    def cancel(self, planned: Planned) -> httpx.Response:
        return self._http.delete(f"/v1/requests/{planned.request_id}", headers=self._authorization(planned))

    def image(self, planned: Planned, index: int) -> httpx.Response:
        """One image by the gateway, for a tenant that has a key."""
        path = f"/v1/requests/{planned.request_id}/images/{index}"
        return self._http.get(path, headers=self._authorization(planned))

    def _authorization(self, planned: Planned) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._keys[planned.tenant]}"}
