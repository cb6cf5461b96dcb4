"""Whether the object store can be reached; it is a directory or a server that runs elsewhere, so there is nothing to start."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from include.config import Settings
from include.platform.service import Service, Unhealthy


def check_directory(directory: Path) -> None:
    if not directory.is_dir():
        raise Unhealthy(f"no directory {directory}")
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise Unhealthy(f"{directory} can't be written by this user")


def check_bucket(settings: Settings, bucket: str) -> None:
    """One HEAD request, no retries: the caller asks again soon."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    keys = {"aws_access_key_id": settings.s3_access_key, "aws_secret_access_key": settings.s3_secret_key}
    client = boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint or None,
        region_name=settings.s3_region,
        config=Config(connect_timeout=3, read_timeout=3, retries={"total_max_attempts": 1}),
        **{name: key.get_secret_value() for name, key in keys.items() if key.get_secret_value()},
    )
    try:
        client.head_bucket(Bucket=bucket)
    except (BotoCoreError, ClientError) as error:
        raise Unhealthy(f"bucket {bucket}: {error}") from error


def check_store(settings: Settings) -> None:
    url = urlsplit(settings.store)
    if url.scheme == "s3":
        check_bucket(settings, url.netloc)
    elif url.scheme == "file":
        check_directory(Path(unquote(url.path)))
    else:
        raise Unhealthy(f"ATELIER_STORE_URL is {settings.store!r}: use file:///directory or s3://bucket/prefix")


def prepare_store(settings: Settings) -> None:
    url = urlsplit(settings.store)
    if url.scheme == "file":
        Path(unquote(url.path)).mkdir(parents=True, exist_ok=True)


def store_service(settings: Settings) -> Service:
    return Service(name="store", prepare=lambda: prepare_store(settings), check=lambda: check_store(settings), url=settings.store)
