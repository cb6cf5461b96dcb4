"""Which objects and models an edge worker may touch: those of the leases that it holds now, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, Self

from include.contracts.dispatch import ModelRef, RenderTask
from include.contracts.objects import MEDIA_TYPES, image_key, parked_key, preview_key
from include.contracts.requests import ImageFormat

#: How the bytes of a picture begin; WebP has its length between the two parts.
_BEGINNINGS = {
    MEDIA_TYPES[ImageFormat.PNG]: (b"\x89PNG\r\n\x1a\n", b""),
    MEDIA_TYPES[ImageFormat.JPEG]: (b"\xff\xd8\xff", b""),
    MEDIA_TYPES[ImageFormat.WEBP]: (b"RIFF", b"WEBP"),
}
PARKED_TYPE = "application/octet-stream"


class Rights(Protocol):
    """Whether a key may be used, and as what."""

    def may_read(self, key: str) -> bool: ...

    def creates(self, key: str) -> str | None:
        """The media type that the key's object has where it may be created, once."""

    def replaces(self, key: str) -> str | None:
        """The media type that the key's object has where it may be written, written over and deleted."""


@dataclass(frozen=True, kw_only=True)
class LeaseRights:
    images: dict[str, str]  #: key → media type
    working: dict[str, str]  #: previews and parked renders: key → media type
    sources: frozenset[str]  #: images to start from

    @classmethod
    def of(cls, tasks: Iterable[RenderTask]) -> Self:
        images: dict[str, str] = {}
        working: dict[str, str] = {}
        sources = set()
        for task in tasks:
            for index in range(task.images):
                images[image_key(task.tenant, task.request_id, index, task.image_format)] = MEDIA_TYPES[task.image_format]
            working[preview_key(task.tenant, task.request_id)] = MEDIA_TYPES[ImageFormat.JPEG]
            working[parked_key(task.tenant, task.request_id)] = PARKED_TYPE
            if task.init_image is not None:
                sources.add(task.init_image)
        return cls(images=images, working=working, sources=frozenset(sources))

    def may_read(self, key: str) -> bool:
        return key in self.images or key in self.working or key in self.sources

    def creates(self, key: str) -> str | None:
        return self.images.get(key) or self.working.get(key)

    def replaces(self, key: str) -> str | None:
        return self.working.get(key)


def looks_like(data: bytes, media_type: str) -> bool:
    """Whether the bytes begin as those of the type do; what has no known beginning is not judged."""
    if media_type not in _BEGINNINGS:
        return True
    first, second = _BEGINNINGS[media_type]
    return data.startswith(first) and data[8 : 8 + len(second)] == second


def may_fetch(digest: str, refs: Iterable[ModelRef]) -> ModelRef | None:
    return next((ref for ref in refs if ref.digest == digest), None)
