"""Leases as the router would issue them, for tests of the worker."""

from __future__ import annotations

import itertools
import time
import uuid
from typing import Any

from include.contracts.dispatch import BatchKey, Lease, ModelRef, RenderTask
from include.contracts.requests import ImageFormat

_numbers = itertools.count()

REF = ModelRef(name="tiny", version="1", digest="0" * 64, source="mlflow-artifacts:/0/run/artifacts/model")


def render_task(request_id: str | None = None, **values: Any) -> RenderTask:
    content = {
        "request_id": request_id or f"r-{uuid.uuid4().hex[:8]}",
        "tenant": "acme",
        "prompt": "red heart",
        "width": 16,
        "height": 16,
        "steps": 4,
        "guidance": 2.0,
        "seed": next(_numbers),
        "images": 1,
        "image_format": ImageFormat.PNG,
    }
    return RenderTask(**{**content, **values})


def lease_of(*tasks: RenderTask, model: ModelRef = REF, **values: Any) -> Lease:
    """A lease issued now to worker-0 of pool standard."""
    now, first = time.time(), tasks[0]
    lease_s = values.pop("lease_s", 30.0)
    key = BatchKey(model=model.key, width=first.width, height=first.height, steps=first.steps, guided=first.guided, variant=first.variant)
    content = {
        "lease_id": f"l-{uuid.uuid4().hex[:8]}",
        "cell": "cell-0",
        "pool": "standard",
        "worker_id": "worker-0",
        "incarnation": "i-1",
        "attempt": 1,
        "issued_at": now,
        "expires_at": now + lease_s,
        "lease_s": lease_s,
        "model": model,
        "batch_key": key,
        "tasks": tasks,
    }
    return Lease(**{**content, **values})
