"""The HTTP API, version 1."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from include.client.errors import DeliveryError
from include.client.producer import INGRESS
from include.contracts import topics
from include.contracts.control import Cancel
from include.contracts.errors import ReasonCode
from include.contracts.events import TERMINAL
from include.contracts.objects import MEDIA_TYPES, preview_key
from include.contracts.requests import GenerationRequest, ImageFormat, ServiceClass
from include.gateway.bodies import body_schema, digest_of, parse_image_request, read_body
from include.gateway.errors import ApiError, ErrorEnvelope, HttpErrorCode, not_found, unavailable
from include.gateway.keys import Caller
from include.gateway.projection import Acceptance
from include.gateway.services import Services
from include.gateway.statuses import RequestStatus, present
from include.gateway.streams import stream_events
from include.storage import ObjectMissingError, StoreError

log = logging.getLogger(__name__)

ERRORS: dict[int | str, dict[str, Any]] = {code: {"model": ErrorEnvelope} for code in (401, 404, 409, 413, 422, 503)}
router = APIRouter(prefix="/v1", responses=ERRORS)
bearer = HTTPBearer(auto_error=False, description="An API key.")


def services(request: Request) -> Services:
    return request.app.state.services


Live = Annotated[Services, Depends(services)]


def authenticated(live: Live, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> Caller:
    if credentials is None:
        raise ApiError(401, HttpErrorCode.UNAUTHORIZED, "send an API key: Authorization: Bearer KEY")
    caller = live.keys.caller(credentials.credentials)
    if caller is None:
        raise ApiError(401, HttpErrorCode.UNAUTHORIZED, "this API key is not known")
    return caller


Authenticated = Annotated[Caller, Depends(authenticated)]


def _status(live: Services, caller: Caller, request_id: str) -> dict[str, Any]:
    status = live.projection.status(request_id, caller.tenant)
    if status is None:
        raise not_found(f"request {request_id}")
    return status


def _read(live: Services, key: str, what: str) -> bytes:
    """The object's bytes; ``what`` is what the caller asked for, in words."""
    try:
        return live.store.get(key)
    except ObjectMissingError as error:
        raise not_found(what) from error
    except StoreError as error:
        log.warning("%s", error)
        raise unavailable("the object store does not answer now") from error


async def _send(live: Services, topic: str, value: bytes, key: str) -> None:
    try:
        await asyncio.wrap_future(live.producer.post(topic, value, key))
    except DeliveryError as error:
        log.warning("%s", error)
        raise unavailable("Kafka does not take the message now; send it again with the same request_id") from error


async def _accept(live: Services, request: GenerationRequest, digest: str, service_class: ServiceClass) -> None:
    outcome = await run_in_threadpool(live.projection.accept, request, digest, service_class, time.time())
    if outcome is Acceptance.TAKEN:
        raise ApiError(409, ReasonCode.ID_TAKEN, "request_id: this id is in use; choose another", field="request_id")
    if outcome is Acceptance.DIFFERENT:
        raise ApiError(
            409, ReasonCode.DUPLICATE_ID, "request_id: you sent another request under this id; choose another", field="request_id"
        )
    if outcome is Acceptance.NEW:
        await _send(live, INGRESS[service_class], request.to_json(), request.request_id)
        await run_in_threadpool(live.projection.acknowledge, request.request_id)


@router.post(
    "/images",
    status_code=202,
    tags=["images"],
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": body_schema()}}}},
)
async def create_images(
    request: Request, live: Live, caller: Authenticated, service_class: ServiceClass = ServiceClass.REALTIME
) -> RequestStatus:
    """Takes a request for images. It is durable once this answers; the same body with the same request_id is answered, not run again."""
    body = await read_body(request)
    wanted = parse_image_request(body, caller)
    await _accept(live, wanted, digest_of(body), service_class)
    return present(wanted.request_id, await run_in_threadpool(_status, live, caller, wanted.request_id))


@router.get("/requests", tags=["requests"])
def list_requests(live: Live, caller: Authenticated, limit: Annotated[int, Query(ge=1, le=200)] = 50) -> list[RequestStatus]:
    """The tenant's requests, the newest change first, whichever way they came in."""
    return [present(status.pop("request_id"), status) for status in live.projection.recent(caller.tenant, limit)]


@router.get("/requests/{request_id}", tags=["requests"])
def get_request(request_id: str, live: Live, caller: Authenticated) -> RequestStatus:
    return present(request_id, _status(live, caller, request_id))


@router.get("/requests/{request_id}/images/{index}", tags=["images"], response_class=Response)
def get_image(request_id: str, index: int, live: Live, caller: Authenticated) -> Response:
    """The stored bytes of one image."""
    status = _status(live, caller, request_id)
    image = next((image for image in status.get("images", []) if image["index"] == index), None)
    if image is None and status["state"] not in TERMINAL:
        raise ApiError(
            409, HttpErrorCode.NOT_READY, f"request {request_id} is {status['state']}; its images are there once it is Completed"
        )
    if image is None:
        raise not_found(f"image {index} of request {request_id}")
    data = _read(live, image["key"], f"image {index} of request {request_id}")
    headers = {"ETag": f'"{image["sha256"]}"', "Cache-Control": "private, max-age=31536000, immutable"}
    return Response(data, media_type=image["media_type"], headers=headers)


@router.get("/requests/{request_id}/preview", tags=["images"], response_class=Response)
def get_preview(request_id: str, live: Live, caller: Authenticated) -> Response:
    """A small JPEG of how a running request looks to become; a newer one takes its place as it renders, and none is left at its end."""
    status, what = _status(live, caller, request_id), f"preview of request {request_id}"
    if status["state"] in TERMINAL:
        raise not_found(what)
    data = _read(live, preview_key(caller.tenant, request_id), what)
    return Response(data, media_type=MEDIA_TYPES[ImageFormat.JPEG], headers={"Cache-Control": "no-store"})


@router.get("/requests/{request_id}/events", tags=["requests"], response_class=StreamingResponse)
async def get_events(
    request_id: str, live: Live, caller: Authenticated, last_event_id: Annotated[int, Header(ge=0)] = 0
) -> StreamingResponse:
    """Server-sent events: each state change so far, then each as it happens; ends after the terminal one."""
    await run_in_threadpool(_status, live, caller, request_id)
    events = stream_events(live.projection, live.hub, request_id, last_event_id)
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


@router.delete("/requests/{request_id}", status_code=202, tags=["requests"])
async def cancel_request(request_id: str, live: Live, caller: Authenticated) -> RequestStatus:
    """Asks for cancellation; whether it came in time is what the next states say."""
    status = await run_in_threadpool(_status, live, caller, request_id)
    if status["state"] in TERMINAL:
        raise ApiError(409, HttpErrorCode.CONFLICT, f"request {request_id} is {status['state']} already")
    cancel = Cancel(request_id=request_id, tenant=caller.tenant, at=time.time(), by="gateway")
    await _send(live, topics.CONTROL, cancel.to_json(), cancel.key)
    return present(request_id, status)


@router.get("/models", tags=["models"])
def list_models(live: Live, caller: Authenticated) -> dict[str, list[dict[str, Any]]]:
    """What is served now: models with their version, sizes and defaults, and the scenarios on offer."""
    models = [
        {"name": route.name, "version": route.champion.version, "is_default": route.is_default, "defaults": route.defaults.model_dump()}
        for route in live.control.routes()
        if route.champion is not None
    ]
    scenarios = [
        scenario.model_dump(exclude_none=True, include={"name", "model", "steps", "guidance", "width", "height"})
        for scenario in live.control.scenarios()
    ]
    return {"models": models, "scenarios": scenarios}
