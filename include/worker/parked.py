"""Renders in the middle, put into the object store by a worker that ends, for another one to go on with.

The object is what the pipeline dumps, a safetensors file, with two more entries in its header's metadata: what it is a render of, and a
digest of the rest. A state goes on only where all of that is as it was, so the image is the one that would have been made anyway.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from include.contracts.dispatch import ModelRef, RenderTask
from include.contracts.objects import parked_key
from include.storage import ObjectMissingError, ObjectStore, StoreError
from include.worker.pipeline import Pipeline, RenderState

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/octet-stream"
_LENGTH_BYTES = 8  #: of the header's length, little endian, in front of the header
_OF, _DIGEST = "render", "sha256"


@dataclass(frozen=True)
class Resumable:
    state: RenderState
    indices: tuple[int, ...]  #: which of the request's images its items are


class ParkedRenders:
    """A store that is away costs the work that would have been saved, nothing else."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    def save(self, task: RenderTask, indices: Sequence[int], state: RenderState, model: ModelRef, backend: str) -> bool:
        """Whether it is in the store now."""
        try:
            data = stamp(state.dump(), describe(task, indices, model, backend))
            self.store.put(parked_key(task.tenant, task.request_id), data, MEDIA_TYPE)
        except Exception as error:  # the worker is about to end, and the render can be done anew
            log.warning("request %s: its render is not kept: %s", task.request_id, error)
            return False
        return True

    def find(self, task: RenderTask, model: ModelRef, pipeline: Pipeline) -> Resumable | None:
        """The request's render, if one is there and is of exactly this; another one is deleted."""
        key = parked_key(task.tenant, task.request_id)
        try:
            data = self.store.get(key)
        except ObjectMissingError:
            return None
        except StoreError as error:
            log.warning("request %s: whether it was begun is not known: %s", task.request_id, error)
            return None
        try:
            return _read(data, task, model, pipeline)
        except (ValueError, KeyError, TypeError) as error:
            log.warning("request %s begins anew: %s: %s", task.request_id, key, error)
            self.discard(task)
            return None

    def discard(self, task: RenderTask) -> None:
        try:
            self.store.delete(parked_key(task.tenant, task.request_id))
        except StoreError as error:
            log.warning("request %s: its parked render stays: %s", task.request_id, error)


def describe(task: RenderTask, indices: Sequence[int], model: ModelRef, backend: str) -> dict[str, object]:
    """Everything that decides what the images become."""
    asked = task.model_dump(mode="json", include={"prompt", "negative_prompt", "width", "height", "steps", "guidance", "seed"})
    return {
        **asked,
        "model": model.digest,
        "adapters": [[adapter.model.digest, adapter.weight] for adapter in task.adapters],
        "start": [task.init_image, task.strength],
        "backend": backend,
        "indices": list(indices),
    }


def stamp(data: bytes, of: dict[str, object]) -> bytes:
    """The safetensors file with what it is of, and a digest of its tensors, in its metadata. Raises :class:`ValueError` for another."""
    header, body = _split(data)
    header["__metadata__"] = {**_metadata(header), _OF: json.dumps(of), _DIGEST: hashlib.sha256(body).hexdigest()}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text + body


def _read(data: bytes, task: RenderTask, model: ModelRef, pipeline: Pipeline) -> Resumable:
    header, body = _split(data)
    metadata = _metadata(header)
    if metadata.get(_DIGEST) != hashlib.sha256(body).hexdigest():
        raise ValueError("it is corrupt")
    of = json.loads(metadata[_OF])
    indices = tuple(of["indices"])
    wanted = json.loads(json.dumps(describe(task, indices, model, pipeline.backend)))
    other = sorted(name for name in wanted if of.get(name) != wanted[name])
    if other:
        raise ValueError(f"it was rendered with another {', '.join(other)}")
    state = pipeline.restore(data)
    if len(state.progress) != len(indices) or not set(indices) <= set(range(task.images)) or state.steps != task.steps:
        raise ValueError(f"it has {len(state.progress)} items of {state.steps} steps for images {indices}")
    return Resumable(state, indices)


def _split(data: bytes) -> tuple[dict[str, object], bytes]:
    end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    header = json.loads(data[_LENGTH_BYTES:end])
    if not isinstance(header, dict):
        raise ValueError("it is no safetensors file")
    return header, data[end:]


def _metadata(header: dict[str, object]) -> dict[str, str]:
    found = header.get("__metadata__", {})
    if not isinstance(found, dict):
        raise ValueError("it is no safetensors file")
    return found
