"""Where images and datasets are kept: a directory or an S3 bucket behind one interface."""

from __future__ import annotations

from include.storage.base import (
    InvalidKeyError,
    ObjectInfo,
    ObjectMissingError,
    ObjectStore,
    PutResult,
    StoreError,
    StoreRefusedError,
    StoreUnavailable,
)
from include.storage.open import open_store

__all__ = [
    "InvalidKeyError",
    "ObjectInfo",
    "ObjectMissingError",
    "ObjectStore",
    "PutResult",
    "StoreError",
    "StoreRefusedError",
    "StoreUnavailable",
    "open_store",
]
