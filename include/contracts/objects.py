"""Where a request's objects are: one rule, used by worker, gateway and tests."""

from __future__ import annotations

from include.contracts.requests import ImageFormat

MEDIA_TYPES = {ImageFormat.PNG: "image/png", ImageFormat.JPEG: "image/jpeg", ImageFormat.WEBP: "image/webp"}


def image_key(tenant: str, request_id: str, index: int, image_format: ImageFormat) -> str:
    """``images/TENANT/REQUEST/INDEX.EXT``; tenant and request id are checked identifiers, so the key can't leave its folder."""
    return f"images/{tenant}/{request_id}/{index}.{image_format.value}"


def preview_key(tenant: str, request_id: str) -> str:
    """A small JPEG of how a running request looks to be; written over as it renders, deleted when it ends."""
    return f"previews/{tenant}/{request_id}.jpg"


def parked_key(tenant: str, request_id: str) -> str:
    """A render in the middle, for another worker to go on with; deleted once its request is completed."""
    return f"parked/{tenant}/{request_id}.safetensors"


def result_key(tenant: str, fingerprint: str) -> str:
    """What a tenant's images were made from, by fingerprint, and where they are; never read for another tenant."""
    return f"results/{tenant}/{fingerprint}.json"
