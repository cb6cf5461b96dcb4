"""Server-sent events: the state changes of one request, from the first to the terminal one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from starlette.concurrency import run_in_threadpool

from include.gateway.hub import Hub
from include.gateway.projection import Projection, StoredEvent
from include.gateway.statuses import present_event

KEEP_ALIVE_S = 15.0


def format_event(event: StoredEvent) -> str:
    return f"id: {event.sequence}\nevent: {event.body['state']}\ndata: {json.dumps(present_event(event.body))}\n\n"


async def stream_events(projection: Projection, hub: Hub, request_id: str, after: int) -> AsyncIterator[str]:
    """What happened after the event with sequence ``after``, then what happens, until the terminal event or the gateway's end."""
    with hub.subscribe(request_id) as wake:
        while not hub.closing:
            wake.clear()
            for event in await run_in_threadpool(projection.events_after, request_id, after):
                after = event.sequence
                yield format_event(event)
                if event.terminal:
                    return
            try:
                await asyncio.wait_for(wake.wait(), KEEP_ALIVE_S)
            except TimeoutError:
                yield ": still here\n\n"
