"""The object store as an edge worker sees it."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from include.contracts.errors import ReasonCode
from include.gateway.bodies import read_body
from include.gateway.edge.rights import Rights, looks_like
from include.gateway.edge.session import Granted, Store
from include.gateway.errors import ApiError, forbidden, not_found, unavailable
from include.storage import InvalidKeyError, ObjectInfo, ObjectMissingError, StoreError
from include.storage.base import check_key

MAX_OBJECT_BYTES = 64 << 20
UPLOADS = 8  #: bodies that are held in memory at a time; further ones wait
DIGEST = "X-Atelier-Sha256"

router = APIRouter(prefix="/objects")
_uploads = asyncio.Semaphore(UPLOADS)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def _ask(call: Any, *arguments: Any) -> Any:
    try:
        return await run_in_threadpool(call, *arguments)
    except InvalidKeyError as error:
        raise ApiError(422, ReasonCode.INVALID_FIELD, str(error), field="key") from error
    except ObjectMissingError as error:
        raise not_found("the object") from error
    except StoreError as error:
        raise unavailable("the object store does not answer now") from error


async def _readable(key: str, rights: Rights) -> str:
    await _ask(check_key, key)
    if not rights.may_read(key):
        raise forbidden(f"{key}: not an object of a lease that this worker holds", "key")
    return key


@router.head("/{key:path}")
async def head_object(key: str, rights: Granted, store: Store) -> Response:
    info: ObjectInfo | None = await _ask(store.head, await _readable(key, rights))
    if info is None:
        raise not_found("the object")
    return Response(headers={"Content-Length": str(info.size), DIGEST: info.sha256}, media_type=info.media_type)


@router.get("/{key:path}")
async def get_object(key: str, rights: Granted, store: Store) -> Response:
    data: bytes = await _ask(store.get, await _readable(key, rights))
    return Response(data, media_type="application/octet-stream", headers={DIGEST: await run_in_threadpool(_digest, data)})


@router.put("/{key:path}")
async def put_object(
    key: str,
    request: Request,
    rights: Granted,
    store: Store,
    if_none_match: Annotated[str | None, Header()] = None,
    x_atelier_sha256: Annotated[str | None, Header()] = None,
) -> JSONResponse:
    """With ``If-None-Match: *``, unless the key is taken; without, in place of what is there, where the key allows that. Where it says
    what digest the bytes have, others are not stored."""
    await _ask(check_key, key)
    once = if_none_match == "*"
    media_type = rights.creates(key) if once else rights.replaces(key)
    if media_type is None:
        how = "created" if once else "written over"
        raise forbidden(f"{key}: can't be {how} by this worker; it is of no lease that it holds now, or is not of that kind", "key")
    async with _uploads:
        data = await read_body(request, MAX_OBJECT_BYTES)
        if x_atelier_sha256 is not None and await run_in_threadpool(_digest, data) != x_atelier_sha256:
            raise ApiError(400, ReasonCode.INVALID_FIELD, f"{key}: the bytes were changed on their way; send them again", field="key")
        if not looks_like(data, media_type):
            raise ApiError(422, ReasonCode.INVALID_FIELD, f"{key}: the bytes are not {media_type}", field="key")
        if not once:
            await _ask(store.put, key, data, media_type)
            return JSONResponse({})
        result = await _ask(store.put_if_absent, key, data, media_type)
    return JSONResponse({"created": result.created, "sha256": result.sha256, "size": result.size})


@router.delete("/{key:path}", status_code=204)
async def delete_object(key: str, rights: Granted, store: Store) -> Response:
    await _ask(check_key, key)
    if rights.replaces(key) is None:
        raise forbidden(f"{key}: can't be deleted by this worker", "key")
    await _ask(store.delete, key)
    return Response(status_code=204)
