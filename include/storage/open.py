"""From the setting ``store`` to a store."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from include.config import Settings
from include.storage.base import ObjectStore, StoreError
from include.storage.directory import DirectoryStore


def open_store(settings: Settings) -> ObjectStore:
    """``file:///dir`` or ``s3://bucket/prefix``; nothing is connected or created yet. Raises :class:`StoreError` for other addresses."""
    address = urlsplit(settings.store)
    if address.scheme == "file" and address.netloc in ("", "localhost") and address.path.strip("/"):
        return DirectoryStore(Path(unquote(address.path)))
    if address.scheme == "s3" and address.netloc:
        return _open_s3(settings, address.netloc, address.path)
    raise StoreError(f"store_url {settings.store!r}: use file:///directory or s3://bucket/prefix")


def _open_s3(settings: Settings, bucket: str, prefix: str) -> ObjectStore:
    from include.storage.s3 import S3Store  # boto3 is slow to import, and the local profile does without it

    return S3Store(
        bucket,
        prefix,
        endpoint=settings.s3_endpoint,
        region=settings.s3_region,
        access_key=settings.s3_access_key if settings.s3_access_key.get_secret_value() else None,
        secret_key=settings.s3_secret_key if settings.s3_secret_key.get_secret_value() else None,
    )
