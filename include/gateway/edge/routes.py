"""The edge workers' API: their leases, their reports, and the objects and model files of their leases."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from include.client.errors import DeliveryError
from include.contracts import topics
from include.contracts.base import dump
from include.contracts.dispatch import ModelRef
from include.contracts.workers import AnyWorkerMessage
from include.gateway.bodies import read_body
from include.gateway.edge import objects
from include.gateway.edge.desk import stream_key
from include.gateway.edge.models import stream_file
from include.gateway.edge.reports import MAX_REPORTS_BYTES, ReportDesk, parse_reports
from include.gateway.edge.rights import may_fetch
from include.gateway.edge.session import In, Session, edge_store
from include.gateway.errors import ApiError, ErrorDetail, ErrorEnvelope, forbidden, unavailable
from include.storage import StoreError

log = logging.getLogger(__name__)

LONGEST_POLL_S = 25.0

ERRORS: dict[int | str, dict[str, Any]] = {code: {"model": ErrorEnvelope} for code in (401, 403, 413, 422, 429, 503)}
router = APIRouter(prefix="/v1/edge", responses=ERRORS, tags=["edge workers"])


class SessionInfo(BaseModel):
    cell: str
    pool: str
    now: float


class Refusal(ErrorDetail):
    index: int


class Taken(BaseModel):
    taken: int
    refused: list[Refusal]


class Dispatches(BaseModel):
    messages: list[dict[str, Any]]
    after: str


@router.get("/session")
def get_session(known: In) -> SessionInfo:
    """Whose leases this worker renders. Once it answers, no later dispatch is missed."""
    return SessionInfo(cell=known.live.settings.cell, pool=known.caller.pool, now=time.time())


@router.post("/messages")
async def post_messages(request: Request, known: In) -> Taken:
    """Worker messages in order; durable once it answers. A refused one is named with its place and the reason, the others go on."""
    reports = parse_reports(await read_body(request, MAX_REPORTS_BYTES))
    good, refusals = await run_in_threadpool(_checked, known, reports)
    try:
        await asyncio.gather(
            *(asyncio.wrap_future(known.live.producer.post(topics.WORKERS, message.to_json(), known.worker_id)) for message in good)
        )
    except DeliveryError as error:
        log.warning("%s", error)
        raise unavailable("Kafka does not take the messages now; send them again") from error
    return Taken(taken=len(good), refused=refusals)


def _checked(known: Session, reports: list[Any]) -> tuple[list[AnyWorkerMessage], list[Refusal]]:
    desk = ReportDesk(
        worker_id=known.worker_id,
        incarnation=known.incarnation,
        cell=known.live.settings.cell,
        book=known.book,
        store=edge_store(known),
    )
    good, refusals = [], []
    for index, report in enumerate(reports):
        try:
            good.append(desk.check(report))
        except ApiError as error:
            log.warning("worker %s: message refused: %s", known.worker_id, error)
            refusals.append(Refusal(index=index, **error.detail.model_dump()))
        except StoreError as error:
            raise unavailable("the object store does not answer now") from error
    return good, refusals


@router.get("/dispatches")
async def get_dispatches(
    known: In, after: Annotated[str, Query(max_length=200)] = "", wait_s: Annotated[float, Query(ge=0, le=LONGEST_POLL_S)] = 0.0
) -> Dispatches:
    """Leases and revocations behind the cursor ``after``; waits up to ``wait_s`` seconds for the first."""
    give_up_at = time.monotonic() + wait_s
    hub = known.live.hub
    with hub.subscribe(stream_key(known.worker_id)) as wake:
        while True:
            wake.clear()
            found, cursor = known.book.dispatches(known.worker_id, known.incarnation, after)
            left_s = give_up_at - time.monotonic()
            if found or left_s <= 0 or hub.closing:
                return Dispatches(messages=[dump(message) for message in found], after=cursor)
            try:
                await asyncio.wait_for(wake.wait(), left_s)
            except TimeoutError:
                continue


@router.get("/routes")
def get_routes(known: In) -> list[dict[str, Any]]:
    """Model routes as on the control topic: what may be asked for soon, so that it can be loaded ahead."""
    return [dump(route) for route in known.live.control.routes()]


@router.get("/models/{digest}/{name:path}", response_class=StreamingResponse)
async def get_model_file(digest: str, name: str, known: In) -> StreamingResponse:
    """A file of a model version that is in service or in one of the worker's leases; ``files.json`` lists the others."""
    routes = [ref for route in known.live.control.routes() for ref in route.versions]
    refs: list[ModelRef] = [*known.book.models(known.worker_id, known.incarnation), *routes]
    ref = may_fetch(digest, refs)
    if ref is None:
        raise forbidden(f"{digest}: no model of a lease of this worker, nor one in service", "digest")
    return await stream_file(known.live.settings.mlflow, ref, name)


router.include_router(objects.router)
