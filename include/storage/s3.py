"""Objects in a bucket of S3 or of a server that speaks its protocol and honours ``If-None-Match`` on PUT."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import SecretStr

from include.storage.base import (
    ObjectInfo,
    ObjectMissingError,
    ObjectStore,
    PutResult,
    StoreUnavailable,
    check_digest,
    check_key,
    check_prefix,
    create_or_find,
)
from include.storage.limits import TOTAL_S, limit_for, within

T = TypeVar("T")

_DIGEST = "sha256"  #: the digest's name in an object's metadata


class S3Store(ObjectStore):
    """Network trouble and answers of 5xx are retried with backoff by the client; what remains raises :class:`StoreUnavailable`.

    :param timeout_s: of each read from the network
    :param total_s: of a whole call, beside what moving its bytes takes
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint: str = "",
        region: str = "us-east-1",
        access_key: SecretStr | None = None,
        secret_key: SecretStr | None = None,
        timeout_s: float = 20.0,
        total_s: float = TOTAL_S,
    ) -> None:
        self.total_s = total_s
        self.bucket = bucket
        self.prefix = check_prefix(prefix.strip("/") + "/") if prefix.strip("/") else ""
        self.endpoint = endpoint
        self._client: Any = s3_client(endpoint=endpoint, region=region, access_key=access_key, secret_key=secret_key, timeout_s=timeout_s)

    def put_if_absent(self, key: str, data: bytes, media_type: str) -> PutResult:
        created = {200: True, 412: False}
        return create_or_find(self, key, data, lambda digest: created.get(self._put(key, data, media_type, digest)))

    def put(self, key: str, data: bytes, media_type: str) -> None:
        status = self._put(key, data, media_type, hashlib.sha256(data).hexdigest(), over=True)
        if status != 200:
            raise StoreUnavailable(f"{self.url(key)}: somebody else is writing this key right now")

    def get(self, key: str) -> bytes:
        name = self._name(key)
        found = self._call(key, lambda: self._client.get_object(Bucket=self.bucket, Key=name))
        if found is None:
            raise ObjectMissingError(f"no object {self.url(key)}")
        data = bytes(self._call(key, found["Body"].read, found.get("ContentLength", 0)) or b"")
        digest = found["Metadata"].get(_DIGEST)
        return data if digest is None else check_digest(data, digest, self.url(key))

    def head(self, key: str) -> ObjectInfo | None:
        name = self._name(key)
        found = self._call(key, lambda: self._client.head_object(Bucket=self.bucket, Key=name))
        if found is None:
            return None
        # Objects that others put here carry no digest.
        digest = found["Metadata"].get(_DIGEST) or hashlib.sha256(self.get(key)).hexdigest()
        return ObjectInfo(key=key, size=found["ContentLength"], sha256=digest, media_type=found["ContentType"])

    def list(self, prefix: str = "") -> Iterator[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix + check_prefix(prefix))
        rows = iter(pages)
        while (page := self._call(prefix, lambda: next(rows, None))) is not None:
            yield from (found["Key"].removeprefix(self.prefix) for found in page.get("Contents", ()))

    def delete(self, key: str) -> None:
        name = self._name(key)
        self._call(key, lambda: self._client.delete_object(Bucket=self.bucket, Key=name))

    def url(self, key: str) -> str:
        return f"s3://{self.bucket}/{self._name(key)}"

    def _name(self, key: str) -> str:
        return self.prefix + check_key(key)

    def _put(self, key: str, data: bytes, media_type: str, digest: str, *, over: bool = False) -> int:
        """200 stored, 412 taken, 409 somebody else is writing it right now. Only with ``over`` it replaces what is there."""
        name = self._name(key)
        condition = {} if over else {"IfNoneMatch": "*"}
        what = {"Bucket": self.bucket, "Key": name, "Body": data, "ContentType": media_type, "Metadata": {_DIGEST: digest}}
        try:
            within(limit_for(len(data), self.total_s), lambda: self._client.put_object(**what, **condition))
        except (ClientError, BotoCoreError, TimeoutError) as error:
            status = _status(error)
            if status in (409, 412):
                return status
            raise self._unavailable(key, error) from error
        return 200

    def _call(self, key: str, call: Callable[[], T], size: int = 0) -> T | None:
        """None where there is no such object.

        :param size: bytes that it moves
        """
        try:
            return within(limit_for(size, self.total_s), call)
        except (ClientError, BotoCoreError, TimeoutError) as error:
            if _status(error) == 404 and _code(error) != "NoSuchBucket":
                return None
            raise self._unavailable(key, error) from error

    def _unavailable(self, key: str, error: ClientError | BotoCoreError | TimeoutError) -> StoreUnavailable:
        hint = {
            "NoSuchBucket": f"; create the bucket {self.bucket} or set ATELIER_STORE_URL",
            "AccessDenied": "; check ATELIER_S3_ACCESS_KEY and ATELIER_S3_SECRET_KEY",
            "SignatureDoesNotMatch": "; check ATELIER_S3_SECRET_KEY",
            "InvalidAccessKeyId": "; check ATELIER_S3_ACCESS_KEY",
        }.get(_code(error), "")
        words = "it does not get done in time" if isinstance(error, TimeoutError) else f"{error}{hint}"
        return StoreUnavailable(f"s3://{self.bucket}/{self.prefix}{key} at {self.endpoint or 'AWS'}: {words}")


def s3_client(
    *,
    endpoint: str = "",
    region: str = "us-east-1",
    access_key: SecretStr | None = None,
    secret_key: SecretStr | None = None,
    timeout_s: float = 20.0,
) -> Any:
    """boto3's client with our timeouts and retries; without keys it looks for them where boto3 does."""
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint or None,
        region_name=region,
        aws_access_key_id=access_key.get_secret_value() if access_key else None,
        aws_secret_access_key=secret_key.get_secret_value() if secret_key else None,
        config=_config(timeout_s, own_endpoint=bool(endpoint)),
    )


def _config(timeout_s: float, own_endpoint: bool) -> Config:
    return Config(
        connect_timeout=min(timeout_s, 5.0),
        read_timeout=timeout_s,
        retries={"mode": "standard", "total_max_attempts": 4},
        s3={"addressing_style": "path" if own_endpoint else "auto"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


def _status(error: ClientError | BotoCoreError | TimeoutError) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"]) if isinstance(error, ClientError) else 0


def _code(error: ClientError | BotoCoreError | TimeoutError) -> str:
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""
