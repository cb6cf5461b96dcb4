"""Model files for edge workers, passed on from the MLflow server as they come; the worker verifies each by its digest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

import httpx
from starlette.responses import StreamingResponse

from include.contracts.dispatch import ModelRef
from include.gateway.errors import ApiError, HttpErrorCode, not_found, unavailable
from include.registry.errors import ModelRejectedError
from include.registry.fetch import artifacts_url
from include.registry.files import LIST_NAME, check_name

TIMEOUT = httpx.Timeout(30.0, connect=3.0)


async def stream_file(uri: str, ref: ModelRef, name: str) -> StreamingResponse:
    """Raises :class:`ApiError`: 422 for a name that no model file has, 404 for a file that is not there, 503 without MLflow."""
    try:
        address = f"{artifacts_url(uri, ref)}/{quote(name if name == LIST_NAME else check_name(name))}"
    except ModelRejectedError as error:
        raise ApiError(409, HttpErrorCode.CONFLICT, str(error)) from error
    except ValueError as error:
        raise ApiError(422, "invalid_field", str(error), field="name") from error
    client = httpx.AsyncClient(timeout=TIMEOUT)
    try:
        answer = await client.send(client.build_request("GET", address), stream=True)
        if answer.status_code == 404:
            raise not_found(f"file {name} of {ref.key}")
        answer.raise_for_status()
    except httpx.HTTPError as error:
        await client.aclose()
        raise unavailable(f"the registry does not give out {ref.key} now: {error or type(error).__name__}") from error
    except ApiError:
        await client.aclose()
        raise
    headers = {"Content-Length": answer.headers["content-length"]} if "content-length" in answer.headers else {}
    return StreamingResponse(_chunks(client, answer), media_type="application/octet-stream", headers=headers)


async def _chunks(client: httpx.AsyncClient, answer: httpx.Response) -> AsyncIterator[bytes]:
    """What breaks off is noticed by the worker: a file shorter than its list says is not taken."""
    try:
        async for chunk in answer.aiter_bytes():
            yield chunk
    finally:
        await answer.aclose()
        await client.aclose()
