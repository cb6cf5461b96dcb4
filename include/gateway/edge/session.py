"""Who calls at the edge workers' door, and what follows from it. Routes take these as dependencies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from include.contracts.base import Identifier
from include.gateway.edge.book import LeaseBook
from include.gateway.edge.keys import EdgeCaller, is_expired
from include.gateway.edge.rights import LeaseRights, Rights
from include.gateway.errors import ApiError, HttpErrorCode, forbidden, unavailable
from include.gateway.services import Services
from include.storage import ObjectStore, StoreError

bearer = HTTPBearer(auto_error=False, scheme_name="EdgeCredential", description="A credential of `atelier edge-key create`.")


@dataclass(frozen=True, kw_only=True)
class Session:
    """One call's caller: a process of a worker that its credential may speak for."""

    live: Services
    caller: EdgeCaller
    worker_id: str
    incarnation: str
    book: LeaseBook


def _caller(live: Services, credentials: HTTPAuthorizationCredentials | None) -> EdgeCaller:
    if credentials is None:
        raise ApiError(401, HttpErrorCode.UNAUTHORIZED, "send an edge credential: Authorization: Bearer CREDENTIAL")
    caller = live.edge.keys.caller(credentials.credentials)
    if caller is None or is_expired(caller):
        raise ApiError(401, HttpErrorCode.UNAUTHORIZED, "this edge credential is not known, or is good no more")
    return caller


def session(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    x_atelier_worker: Annotated[Identifier, Header()],
    x_atelier_incarnation: Annotated[Identifier, Header()],
) -> Session:
    live: Services = request.app.state.services
    caller = _caller(live, credentials)
    if not caller.may_be(x_atelier_worker):
        raise forbidden(f"this credential is for worker {caller.workers}, not for {x_atelier_worker}", "worker_id")
    wait_s = live.edge.limit.wait_s(x_atelier_worker)
    if wait_s:
        raise ApiError(429, HttpErrorCode.RATE_LIMITED, "too many calls of this worker", retry_after_s=wait_s)
    trouble = live.edge.trouble(caller.pool)
    if trouble:
        raise unavailable(trouble, retry_after_s=1.0)
    book = live.edge.pool(caller.pool).book
    return Session(live=live, caller=caller, worker_id=x_atelier_worker, incarnation=x_atelier_incarnation, book=book)


In = Annotated[Session, Depends(session)]


def lease_rights(known: In) -> LeaseRights:
    return LeaseRights.of(known.book.tasks(known.worker_id, known.incarnation))


def edge_store(known: In) -> ObjectStore:
    try:
        return known.live.store
    except StoreError as error:
        raise unavailable("the object store is not configured rightly") from error


Granted = Annotated[Rights, Depends(lease_rights)]
Store = Annotated[ObjectStore, Depends(edge_store)]
