"""Wakes the open event streams of a request when something about it changed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class Hub:
    """Lives on one event loop; :meth:`notify_from_thread` is the way in from the follower's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self.closing = False

    @contextmanager
    def subscribe(self, request_id: str) -> Iterator[asyncio.Event]:
        """An event that is set at each change; whoever waits clears it."""
        wake = asyncio.Event()
        self._waiting[request_id].add(wake)
        try:
            yield wake
        finally:
            self._waiting[request_id].discard(wake)
            if not self._waiting[request_id]:
                del self._waiting[request_id]

    def notify_from_thread(self, request_ids: Iterable[str]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._notify, tuple(request_ids))

    def close(self) -> None:
        """Wakes everyone; streams end when they see :attr:`closing`."""
        self.closing = True
        self._notify(tuple(self._waiting))

    def _notify(self, request_ids: tuple[str, ...]) -> None:
        for request_id in request_ids:
            for wake in self._waiting.get(request_id, ()):
                wake.set()
