"""A request's status as HTTP shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from include.contracts.errors import Reason
from include.contracts.events import Estimate, ImageResult, Lane, Progress, Usage
from include.contracts.requests import ServiceClass, Tier


class ImageLink(ImageResult):
    url: str = Field(description="Where the gateway hands out the bytes.")


class RequestStatus(BaseModel):
    request_id: str
    state: str = Field(description="Accepted until the router has seen it, then a State.")
    tier: Tier | None = None
    service_class: ServiceClass | None = None
    lane: Lane | None = None
    position: int | None = Field(None, description="Place in its lane, 1 is next.")
    estimate: Estimate | None = Field(None, description="Of the wait, counted from queued_at.")
    attempt: int = Field(0, description="Dispatches so far.")
    model: str | None = None
    model_version: str | None = None
    progress: Progress | None = None
    reason: Reason | None = Field(None, description="Why it was refused, retried, failed, cancelled or expired.")
    images: list[ImageLink] = Field(default_factory=list)
    usage: Usage | None = None
    waited_s: float | None = Field(None, description="Seconds from acceptance to the dispatch that led to the terminal state.")
    degraded: list[str] = Field(default_factory=list, description="What was reduced; empty means nothing.")
    created_at: float | None = Field(None, description="Seconds since 1970.")
    queued_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    status_url: str
    events_url: str
    preview_url: str = Field(description="Where the gateway hands out how it looks to become, while it renders.")


def status_url(request_id: str) -> str:
    return f"/v1/requests/{request_id}"


def image_url(request_id: str, index: int) -> str:
    return f"{status_url(request_id)}/images/{index}"


def preview_url(request_id: str) -> str:
    return f"{status_url(request_id)}/preview"


def linked_images(request_id: str, images: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{**image, "url": image_url(request_id, image["index"])} for image in images]


def present(request_id: str, status: Mapping[str, Any]) -> RequestStatus:
    links = {"status_url": status_url(request_id), "events_url": f"{status_url(request_id)}/events", "preview_url": preview_url(request_id)}
    images = linked_images(request_id, status.get("images", []))
    return RequestStatus.model_validate({**status, "request_id": request_id, "images": images, **links})


def present_event(body: Mapping[str, Any]) -> dict[str, Any]:
    """An event for its tenant: without the decision trace, which may name other tenants' requests."""
    shown = {key: value for key, value in body.items() if key not in ("trace", "schema_version")}
    return {**shown, "images": linked_images(body["request_id"], body.get("images", []))}
