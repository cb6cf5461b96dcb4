"""How one request's image takes shape: its previews, fetched through the gateway as they come."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx
from PIL import Image
from rich.text import Text

from include.contracts.events import StatusEvent
from include.demo.observer import Observer, Seen
from include.demo.planned import Planned
from include.demo.sending import Sender

WAIT_S = 0.5  #: how long to wait for an event before looking whether to stop


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A preview, and how far the render had come when it was fetched."""

    request_id: str
    step: int
    steps: int
    data: bytes  #: JPEG

    @property
    def name(self) -> str:
        """Of its file beside the page."""
        return f"preview-{self.request_id}-{self.step:03}.jpg"


class PreviewWatch(threading.Thread):
    """Fetches the preview at each progress event of a request, while the body of ``with`` runs and the request does."""

    def __init__(self, observer: Observer, sender: Sender, planned: Planned) -> None:
        super().__init__(name="demo-previews", daemon=True)
        self.frames: list[Frame] = []
        self.error: Exception | None = None
        self._observer = observer
        self._sender = sender
        self._planned = planned
        self._handled = 0  #: progress events that were acted on
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopped.set()
        self.join()

    def run(self) -> None:
        request_id = self._planned.request_id or ""
        while not self._stopped.is_set() and self._observer.ask(lambda seen: seen.terminal(request_id)) is None:
            if self._observer.wait(lambda seen: len(progress_of(seen, request_id)) > self._handled, WAIT_S):
                found = self._observer.ask(lambda seen: progress_of(seen, request_id))
                self._handled = len(found)
                self._fetch(found[-1])

    def _fetch(self, event: StatusEvent) -> None:
        try:
            reply = self._sender.preview(self._planned)
        except httpx.HTTPError as error:  # told by the judge where no other frame came
            self.error = error
            return
        if reply.is_success and event.progress is not None and (not self.frames or self.frames[-1].data != reply.content):
            progress = event.progress
            self.frames.append(Frame(request_id=event.request_id, step=progress.step, steps=progress.steps, data=reply.content))


def progress_of(seen: Seen, request_id: str) -> list[StatusEvent]:
    """What was told of its steps, in the order in which it came."""
    return [event for event in seen.events.get(request_id, ()) if event.progress is not None]


def as_text(frame: Frame, columns: int = 28) -> Text:
    """A picture for a terminal: each character is two pixels, one above the other."""
    with Image.open(io.BytesIO(frame.data)) as picture:
        rows = max(2, round(columns * picture.height / picture.width / 2) * 2)
        small = picture.convert("RGB").resize((columns, rows))
    text = Text()
    for y in range(0, rows, 2):
        for x in range(columns):
            text.append("▀", f"{_colour(small, x, y)} on {_colour(small, x, y + 1)}")
        text.append("\n")
    return text


def _colour(picture: Image.Image, x: int, y: int) -> str:
    pixel = picture.getpixel((x, y))
    assert isinstance(pixel, tuple)
    return "#{:02x}{:02x}{:02x}".format(*(int(value) for value in pixel))
