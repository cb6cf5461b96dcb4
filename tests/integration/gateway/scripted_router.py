"""A stand-in for router and workers that answers at once: the real parser and catalogue, real topics, a real store, no queue."""

from __future__ import annotations

import io
import threading
import time
from types import TracebackType
from typing import Any, Self

from PIL import Image

from include.client.producer import TopicProducer
from include.client.reader import Record, Start, TopicReader
from include.config import Settings
from include.contracts import topics
from include.contracts.control import LaneRule, ModelDefaults, ModelRoute, Policy
from include.contracts.dead_letters import DeadLetter, encode_original
from include.contracts.dispatch import ModelRef
from include.contracts.errors import Reason, ReasonCode, RefusedError
from include.contracts.events import ImageResult, Lane, State, StatusEvent, Usage, event_id
from include.contracts.objects import MEDIA_TYPES, image_key
from include.contracts.requests import GenerationRequest, ServiceClass, Tier
from include.routing.catalog import Catalog
from include.routing.parse import Refusal, parse_request
from include.storage import open_store


def catalog() -> Catalog:
    lanes = tuple(LaneRule(service_class=one, tier=tier, lane=Lane.NORMAL) for one in ServiceClass for tier in Tier)
    found = Catalog(Policy(at=1.0, lanes=lanes, lane_bound_s=dict.fromkeys(Lane, 100.0)), "emoji")
    defaults = ModelDefaults(width=64, height=64, steps=12, guidance=3.0, sizes=((64, 64),))
    champion = ModelRef(name="emoji", version="1", digest="0" * 64, source="x")
    found.put(ModelRoute(at=1.0, name="emoji", champion=champion, defaults=defaults, is_default=True))
    return found


class ScriptedRouter:
    """``lose`` names a request that it never answers."""

    def __init__(self, settings: Settings, lose: str = "") -> None:
        self._producer = TopicProducer(settings)
        self._store = open_store(settings)
        self._catalog = catalog()
        self._lose = lose
        self._owners: dict[str, str] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        readers = {topic: TopicReader(settings, topic, Start.END) for topic in (topics.REALTIME, topics.BATCH)}
        self._threads = [threading.Thread(target=self._serve, args=(topic, reader)) for topic, reader in readers.items()]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        self._producer.close()

    def _serve(self, topic: str, reader: TopicReader) -> None:
        with reader:
            while not self._stopped.is_set():
                record = reader.poll(0.1)
                if record is not None:
                    with self._lock:
                        self._answer(topic, record)

    def _answer(self, topic: str, record: Record) -> None:
        found = parse_request(None if record.value is None else record.value.decode("latin-1"))
        if isinstance(found, Refusal):
            self._refuse(topic, record, found.reason, found.request_id, found.tenant)
            return
        owner = self._owners.setdefault(found.request_id, "")
        if owner:
            code = ReasonCode.DUPLICATE_ID if owner == found.tenant else ReasonCode.ID_TAKEN
            self._refuse(topic, record, Reason(code=code, message="request_id: in use"), None, None)
            return
        self._owners[found.request_id] = found.tenant
        try:
            self._catalog.resolve(found.model_copy(update={"scenario": None}) if found.scenario == "sticker" else found)
        except RefusedError as error:
            self._refuse(topic, record, error.reason, found.request_id, found.tenant)
            return
        if found.request_id != self._lose:
            self._complete(found)

    def _refuse(self, topic: str, record: Record, reason: Reason, request_id: str | None, tenant: str | None) -> None:
        letter = DeadLetter(source_topic=topic, at=time.time(), reason=reason, original=encode_original(record.value))
        self._producer.post(topics.DEAD_LETTERS, letter.to_json())
        if request_id and tenant and self._owners.setdefault(request_id, tenant) == tenant:
            self._say(request_id, tenant, State.REFUSED, reason=reason)

    def _complete(self, request: GenerationRequest) -> None:
        images = tuple(self._image(request, index) for index in range(request.images))
        usage = Usage(gpu_seconds=0.1, render_s=0.1, steps=12)
        common = {"lane": Lane.NORMAL, "model": "emoji", "model_version": "1"}
        self._say(request.request_id, request.tenant, State.QUEUED, position=1, lane=Lane.NORMAL)
        self._say(request.request_id, request.tenant, State.COMPLETED, images=images, usage=usage, waited_s=0.1, **common)

    def _image(self, request: GenerationRequest, index: int) -> ImageResult:
        buffer = io.BytesIO()
        Image.new("RGB", (64, 64), "red").save(buffer, request.image_format.upper())
        key, media_type = image_key(request.tenant, request.request_id, index, request.image_format), MEDIA_TYPES[request.image_format]
        stored = self._store.put_if_absent(key, buffer.getvalue(), media_type)
        return ImageResult(
            index=index, key=key, sha256=stored.sha256, size_bytes=stored.size, width=64, height=64, seed=1, media_type=media_type
        )

    def _say(self, request_id: str, tenant: str, state: State, **fields: Any) -> None:
        event = StatusEvent(
            event_id=event_id(request_id, state, 0), request_id=request_id, tenant=tenant, state=state, at=time.time(), **fields
        )
        self._producer.post(topics.EVENTS, event.to_json(), request_id)
