"""One envelope for every error: ``{"error": {"code", "message", "field", "retry_after_s"}}``, the shape of a contract's ``Reason``."""

from __future__ import annotations

import logging
import math
from enum import StrEnum

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from include.contracts.errors import Reason

log = logging.getLogger(__name__)


class HttpErrorCode(StrEnum):
    """What goes wrong at the edge only; what is wrong with a request itself has a :class:`~include.contracts.errors.ReasonCode`."""

    UNAUTHORIZED = "unauthorized"  #: no API key, or one that is not known
    FORBIDDEN = "forbidden"  #: the credential is known and does not reach that far
    RATE_LIMITED = "rate_limited"  #: too many calls; retry_after_s says when to come back
    NOT_FOUND = "not_found"  #: no such thing, or it is another tenant's
    NOT_READY = "not_ready"  #: it will be there later, if all goes well
    TOO_LARGE = "too_large"  #: the body is over the limit
    CONFLICT = "conflict"  #: it can't be done in the present state
    UNAVAILABLE = "unavailable"  #: something behind the gateway is away; retry_after_s says when to come back
    BAD_REQUEST = "bad_request"  #: a path, query or method that the API does not have
    INTERNAL = "internal"  #: a fault of the gateway; its log has the details


class ErrorDetail(BaseModel):
    code: str = Field(description="A label to branch on.")
    message: str = Field(description="What is wrong and what would be right.")
    field: str | None = Field(None, description="The field at fault, dotted.")
    retry_after_s: float | None = Field(None, description="Seconds after which the same request may succeed.")


class ErrorEnvelope(BaseModel):
    error: ErrorDetail


class ApiError(Exception):
    """Raised anywhere below a route; becomes the envelope with this status."""

    def __init__(self, status: int, code: str, message: str, *, field: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.detail = ErrorDetail(code=code, message=message, field=field, retry_after_s=retry_after_s)


def refused(reason: Reason, status: int = 422) -> ApiError:
    return ApiError(status, reason.code, reason.message, field=reason.field, retry_after_s=reason.retry_after_s)


def not_found(what: str) -> ApiError:
    return ApiError(404, HttpErrorCode.NOT_FOUND, f"{what} is not known here")


def forbidden(what: str, field: str | None = None) -> ApiError:
    return ApiError(403, HttpErrorCode.FORBIDDEN, what, field=field)


def unavailable(what: str, retry_after_s: float = 5.0) -> ApiError:
    return ApiError(503, HttpErrorCode.UNAVAILABLE, what, retry_after_s=retry_after_s)


def _respond(error: ApiError) -> JSONResponse:
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    if error.detail.retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(error.detail.retry_after_s))
    return JSONResponse(ErrorEnvelope(error=error.detail).model_dump(exclude_none=True), status_code=error.status, headers=headers)


async def _on_api_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return _respond(error)


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = HttpErrorCode.NOT_FOUND if error.status_code == 404 else HttpErrorCode.BAD_REQUEST
    return _respond(ApiError(error.status_code, code, f"{request.method} {request.url.path}: {error.detail}"))


async def _on_validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = str(first["loc"][-1])
    return _respond(ApiError(422, "invalid_field", f"{field}: {first['msg']}", field=field))


async def _on_fault(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _respond(ApiError(500, HttpErrorCode.INTERNAL, "the gateway failed; its log has the details"))


def install(app: FastAPI) -> None:
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(Exception, _on_fault)
