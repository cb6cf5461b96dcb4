"""The object store through the gateway: the objects of the leases that this worker holds, and no others."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any, NoReturn
from urllib.parse import quote

import httpx

from include.storage import (
    InvalidKeyError,
    ObjectInfo,
    ObjectMissingError,
    ObjectStore,
    PutResult,
    StoreError,
    StoreRefusedError,
    StoreUnavailable,
)
from include.storage.base import check_digest, check_key
from include.storage.limits import TOTAL_S, limit_for, within
from include.worker.edge_client import CredentialRefusedError, EdgeClient, words_of

DIGEST = "X-Atelier-Sha256"


class EdgeStore(ObjectStore):
    """What the worker may not read is missing, as far as it can tell; what it may not write raises :class:`StoreRefusedError`."""

    def __init__(self, client: EdgeClient, *, total_s: float = TOTAL_S) -> None:
        self.client = client
        self.total_s = total_s  #: of a whole call, beside what moving its bytes takes

    def put_if_absent(self, key: str, data: bytes, media_type: str) -> PutResult:
        answer = self._put(key, data, media_type, once=True)
        if not answer.is_success:
            self._fail(key, answer)
        with self._of_the_gateway(key, answer):
            return PutResult(**answer.json())

    def put(self, key: str, data: bytes, media_type: str) -> None:
        answer = self._put(key, data, media_type)
        if not answer.is_success:
            self._fail(key, answer)

    def get(self, key: str) -> bytes:
        answer = self._call("GET", key)
        if answer.status_code in (403, 404):
            raise ObjectMissingError(f"no object {self.url(key)}")
        if not answer.is_success:
            self._fail(key, answer)
        with self._of_the_gateway(key, answer):
            digest = answer.headers[DIGEST]
        return check_digest(answer.content, digest, self.url(key))

    def head(self, key: str) -> ObjectInfo | None:
        answer = self._call("HEAD", key)
        if answer.status_code in (403, 404):
            return None
        if not answer.is_success:
            self._fail(key, answer)
        headers = answer.headers
        with self._of_the_gateway(key, answer):
            return ObjectInfo(key=key, size=int(headers["Content-Length"]), sha256=headers[DIGEST], media_type=headers["Content-Type"])

    def list(self, prefix: str = "") -> Iterator[str]:
        raise StoreError("a worker behind a gateway lists no objects: it knows the keys of its leases")

    def delete(self, key: str) -> None:
        answer = self._call("DELETE", key)
        if not answer.is_success:
            self._fail(key, answer)

    def url(self, key: str) -> str:
        return f"{self.client.gateway}/v1/edge/objects/{quote(check_key(key))}"

    def _put(self, key: str, data: bytes, media_type: str, *, once: bool = False) -> httpx.Response:
        headers = {"Content-Type": media_type, DIGEST: hashlib.sha256(data).hexdigest()}
        return self._call("PUT", key, content=data, headers={"If-None-Match": "*", **headers} if once else headers)

    def _call(self, method: str, key: str, content: bytes = b"", **more: Any) -> httpx.Response:
        path = f"objects/{quote(check_key(key))}"
        try:
            limit_s = limit_for(len(content), self.total_s)
            answer = within(limit_s, lambda: self.client.open(method, path, content=content or None, **more))
            with contextlib.closing(answer):
                within(limit_for(_length(answer), self.total_s), answer.read)
        except (httpx.HTTPError, CredentialRefusedError, TimeoutError) as error:
            words = "it does not get done in time" if isinstance(error, TimeoutError) else error or type(error).__name__
            raise StoreUnavailable(f"{method} {self.url(key)}: {words}") from error
        return answer

    @contextlib.contextmanager
    def _of_the_gateway(self, key: str, answer: httpx.Response) -> Iterator[None]:
        """A proxy's page with status 200 says nothing about the object."""
        try:
            yield
        except (ValueError, TypeError, KeyError) as error:
            kind = answer.headers.get("Content-Type", "no media type")
            raise StoreUnavailable(
                f"{self.url(key)}: {kind} is no answer of the gateway; is a proxy in between? check --gateway"
            ) from error

    def _fail(self, key: str, answer: httpx.Response) -> NoReturn:
        words = f"{self.url(key)}: {words_of(answer)}"
        if answer.status_code == 403:
            raise StoreRefusedError(words)
        if answer.status_code == 422:
            raise InvalidKeyError(words)
        if answer.status_code == 413:
            raise StoreError(words)
        raise StoreUnavailable(words)


def _length(answer: httpx.Response) -> int:
    """Bytes that are still to come, as far as the answer tells."""
    said = answer.headers.get("Content-Length", "")
    return int(said) if said.isdecimal() and answer.request.method != "HEAD" else 0
