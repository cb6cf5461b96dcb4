"""Generated images that people rated well, from the feedback archive that ``flink_jobs/archive_events.py`` fills."""

from __future__ import annotations

from collections.abc import Iterator

from include.config import settings
from include.dataset.archive import rated_images
from include.dataset.sources.base import Source, SourceItem

LICENSE = "generated"


class FeedbackSource(Source):
    """The images of completed requests whose mean rating is at least ``minimum_rating``, each with the prompt it was made for."""

    def __init__(self, place: str, *, minimum_rating: float, store: str | None = None) -> None:
        self.place, self.minimum_rating = place, minimum_rating
        self.store = (store or settings().store).rstrip("/")

    def items(self) -> Iterator[SourceItem]:
        for rated in rated_images(self.place):
            if rated.rating >= self.minimum_rating:
                yield SourceItem(
                    key=rated.key,
                    path=f"{self.store.removeprefix('file://')}/{rated.key}",
                    captions=(rated.prompt,) if rated.prompt else (),
                    license=LICENSE,
                    author=f"tenant {rated.tenant}",
                    source=f"request {rated.request_id}, model {rated.model} {rated.model_version}",
                    stamp=rated.sha256,
                )
