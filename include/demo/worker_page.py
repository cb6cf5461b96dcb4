"""The acts of the workers on the page: pictures that the figures of the report don't have."""

from __future__ import annotations

from typing import Any

from include.demo.pictures import image_name
from include.demo.worker_acts import Story, WorkerActs


def worker_context(acts: WorkerActs) -> dict[str, Any]:
    frames = [{"src": f"images/{frame.name}", "step": frame.step} for frame in acts.frames]
    return {"frames": frames, "image": picture_of(acts.watched), "pictures": {story.id: picture_of(story) for story in acts.crash.stories}}


def picture_of(story: Story) -> str:
    """Where its first image lies beside the page; empty where it has none."""
    event = story.verdict.event
    return f"images/{image_name(event.images[0])}" if event is not None and story.verdict.images else ""
