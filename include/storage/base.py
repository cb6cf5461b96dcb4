"""The object store's interface: whole objects under keys."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

MAX_KEY = 512
CONFLICT_TRIES = 5  #: of a put whose key others write and delete at the same time
_SEGMENT = re.compile(r"[A-Za-z0-9_=+@-][A-Za-z0-9._=+@-]*")


class StoreError(Exception):
    """Something is wrong with a store or with what is asked of it."""


class InvalidKeyError(StoreError, ValueError):
    """The key is not one that a store takes."""


class ObjectMissingError(StoreError, KeyError):
    """No object has that key."""

    def __str__(self) -> str:
        return str(self.args[0])


class StoreUnavailable(StoreError):
    """The store can't be reached, is full or refuses access; the same call may succeed later."""


class StoreRefusedError(StoreUnavailable):
    """The store is there and refuses; the same call soon after fails as well."""


@dataclass(frozen=True, kw_only=True)
class ObjectInfo:
    key: str
    size: int  #: bytes
    sha256: str  #: hex digest of the bytes
    media_type: str


@dataclass(frozen=True, kw_only=True)
class PutResult:
    """What is under the key after the call, whoever put it there."""

    created: bool  #: False: the key was taken, and its object is as it was
    sha256: str
    size: int


class ObjectStore(ABC):
    """Keys are relative paths such as ``images/acme/r-1/0.png``. Every method raises :class:`InvalidKeyError` for other keys and
    :class:`StoreUnavailable` where the store can't do its work now; over a network that is said within a minute and what moving the bytes
    takes (:mod:`include.storage.limits`). Safe to use from several threads."""

    remote = True  #: whether its calls wait for a network, and so for long where that is gone

    @abstractmethod
    def put_if_absent(self, key: str, data: bytes, media_type: str) -> PutResult:
        """Store ``data`` unless the key is taken. Atomic: of concurrent calls one creates the object, and nobody sees a part of it."""

    @abstractmethod
    def put(self, key: str, data: bytes, media_type: str) -> None:
        """Store ``data`` in place of what is under the key, if anything. Atomic: a reader sees all of the one or all of the other."""

    @abstractmethod
    def get(self, key: str) -> bytes:
        """The bytes that were stored, checked by their digest where this store wrote them. Raises :class:`ObjectMissingError`."""

    @abstractmethod
    def head(self, key: str) -> ObjectInfo | None:
        """None where no object has that key. Reads nothing of an object that this store wrote."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[str]:
        """Keys that start with ``prefix``, in order; ``prefix`` is empty or the beginning of a key."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Afterwards no object has that key, whether or not one had."""

    @abstractmethod
    def url(self, key: str) -> str:
        """The object's address for people and logs; reading it may need credentials."""


def check_key(key: str) -> str:
    """The key itself. Raises :class:`InvalidKeyError` for an absolute, climbing, hidden, overlong or otherwise odd one."""
    segments = key.split("/")
    if len(key) > MAX_KEY or not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise InvalidKeyError(
            f"object key {key[:80]!r}: use at most {MAX_KEY} characters, segments of A-Z a-z 0-9 . _ = + @ - joined by '/', "
            "none of them empty or with a leading dot"
        )
    return key


def check_prefix(prefix: str) -> str:
    if prefix:
        check_key(prefix.removesuffix("/"))
    return prefix


def check_digest(data: bytes, sha256: str, where: str) -> bytes:
    """``data`` itself. Raises :class:`StoreUnavailable` where its digest is another one: reading it again may help."""
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise StoreUnavailable(f"{where}: its {len(data)} bytes have sha256 {found[:12]}…, those that were stored {sha256[:12]}…")
    return data


def create_or_find(store: ObjectStore, key: str, data: bytes, create: Callable[[str], bool | None]) -> PutResult:
    """A put that leaves a taken key alone, for stores that can create an object atomically.

    :param create: given the digest of ``data``; True where it stored it, False where the key is taken, None where it can't tell because
        others write the key right now
    """
    digest = hashlib.sha256(data).hexdigest()
    for _ in range(CONFLICT_TRIES):
        created = create(digest)
        if created:
            return PutResult(created=True, sha256=digest, size=len(data))
        found = store.head(key) if created is False else None
        if found is not None:
            return PutResult(created=False, sha256=found.sha256, size=found.size)
    raise StoreUnavailable(f"{store.url(key)}: others kept writing and deleting this key for {CONFLICT_TRIES} tries")
