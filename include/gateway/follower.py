"""A thread that follows a topic for as long as the gateway lives, through broker restarts and errors of its own handler."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from include.client.errors import BrokerUnavailableError
from include.client.reader import OffsetsOf, Record, Start, TopicReader, no_offsets
from include.config import Settings

log = logging.getLogger(__name__)

BATCH = 500
POLL_S = 0.25
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0


@dataclass(kw_only=True)
class Following:
    """How it goes, for the health page."""

    reading: bool = False
    error: str = "not connected yet"
    caught_up_at: float | None = None  #: when it last had nothing left to read


class TopicFollower(threading.Thread):
    """Hands each batch of records to ``handle(cluster_id, records)``; what ``handle`` raises is logged and the batch is read again.

    :param window_s: messages older than so many seconds at the start are skipped, where no offset is known; None: none is
    """

    def __init__(
        self,
        settings: Settings,
        topic: str,
        handle: Callable[[str, list[Record]], None],
        offsets: OffsetsOf = no_offsets,
        *,
        window_s: float | None = None,
    ) -> None:
        super().__init__(name=f"follow-{topic}", daemon=True)
        self.state = Following()
        self._settings = settings
        self._topic = topic
        self._handle = handle
        self._offsets = offsets
        self._window_s = window_s
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()
        self.join(10)

    def run(self) -> None:
        pause = FIRST_PAUSE_S
        while not self._stopped.is_set():
            try:
                since = None if self._window_s is None else time.time() - self._window_s
                with TopicReader(self._settings, self._topic, Start.BEGINNING, self._offsets, since=since) as reader:
                    self.state.reading, self.state.error, pause = True, "", FIRST_PAUSE_S
                    self._follow(reader)
            except BrokerUnavailableError as error:
                self._note(str(error))
            except Exception as error:
                # Whatever it is (a full disk, a locked database), the gateway lives on and tries this batch again.
                self._note(f"{type(error).__name__}: {error}")
                log.exception("following %s failed", self._topic)
            self._stopped.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    def _follow(self, reader: TopicReader) -> None:
        while not self._stopped.is_set():
            records = reader.poll_batch(BATCH, POLL_S)
            if records:
                self._handle(reader.cluster_id, records)
            # Asked until the first time only: an empty poll may also mean that the first fetch is still under way.
            if len(records) < BATCH and (self.state.caught_up_at or reader.caught_up()):
                self.state.caught_up_at = time.time()

    def _note(self, error: str) -> None:
        if error != self.state.error:
            log.warning("%s: %s; trying again", self._topic, error)
        self.state.reading, self.state.error = False, error
