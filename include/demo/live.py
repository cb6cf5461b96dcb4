"""What the demo shows while requests are on their way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from include.contracts.events import Lane, State, StatusEvent
from include.demo.observer import Seen, WorkerView

WAITING = (State.QUEUED, State.RETRYING)
STATE_STYLE = {State.COMPLETED: "green", State.REFUSED: "yellow", State.FAILED: "red", State.PROCESSING: "cyan"}
PLAIN_EVERY_S = 5.0


def newest_events(seen: Seen, request_ids: frozenset[str]) -> list[StatusEvent]:
    return [event for request_id in request_ids if (event := seen.newest(request_id)) is not None]


def lanes_table(events: list[StatusEvent]) -> Table:
    table = Table(title="lanes", title_style="bold", title_justify="left", box=None, pad_edge=False)
    for column in ("lane", "queued", "processing", "done", "longest wait"):
        table.add_column(column, justify="left" if column == "lane" else "right", min_width=6)
    for lane in Lane:
        here = [event for event in events if event.lane is lane]
        queued = sum(event.state in WAITING for event in here)
        processing = sum(event.state is State.PROCESSING for event in here)
        done = sum(event.state.terminal for event in here)
        waits = [event.waited_s for event in here if event.waited_s is not None]
        table.add_row(lane, str(queued), str(processing), str(done), f"{max(waits):.1f} s" if waits else "-")
    return table


def states_line(events: list[StatusEvent], dead_letters: int) -> Text:
    counts = {state: sum(event.state is state for event in events) for state in State}
    shown = [Text(f"{state} {count}", STATE_STYLE.get(state, "")) for state, count in counts.items() if count]
    return Text("   ").join([Text("states", "bold"), *shown, Text(f"dead letters {dead_letters}", "yellow")])


def workers_table(workers: list[WorkerView]) -> Table:
    table = Table(title="workers", title_style="bold", title_justify="left", box=None, pad_edge=False)
    for column in ("worker", "pool", "device", "now", "rendered", "held", "warm models"):
        table.add_column(column, justify="right" if column in ("rendered", "held") else "left", min_width=7)
    for view in sorted(workers, key=lambda one: one.worker_id):
        now = Text("gone", "red") if view.gone else Text("rendering", "cyan") if view.busy_with or view.held else Text("idle", "dim")
        warm = ", ".join(view.warm) or "-"
        table.add_row(view.worker_id, view.pool, view.device or "-", now, str(view.completed), f"{view.held}/{view.slots}", warm)
    return table


def traffic_view(seen: Seen, request_ids: frozenset[str], headline: str) -> RenderableType:
    events = newest_events(seen, request_ids)
    return Group(
        Text(headline, "dim"), lanes_table(events), states_line(events, len(seen.dead_letters)), workers_table(list(seen.workers.values()))
    )


def plain_line(seen: Seen, request_ids: frozenset[str], headline: str) -> str:
    events = newest_events(seen, request_ids)
    by_lane = [f"{lane} {sum(event.lane is lane and event.state in WAITING for event in events)}" for lane in Lane]
    return f"  {headline}   queued: {', '.join(by_lane)}   {states_line(events, len(seen.dead_letters)).plain}"


@contextmanager
def shown(console: Console, view: Callable[[], RenderableType], line: Callable[[], str]) -> Iterator[None]:
    """Draws ``view`` live on a terminal; elsewhere prints ``line`` every few seconds, for a log has no use for a redrawn table."""
    if console.is_terminal:
        with Live(get_renderable=view, console=console, refresh_per_second=4):
            yield
        return
    finished = threading.Event()

    def report() -> None:
        while not finished.wait(PLAIN_EVERY_S):
            console.print(line(), highlight=False, markup=False)

    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        yield
    finally:
        finished.set()
        reporter.join()
        console.print(line(), highlight=False, markup=False)


def since(started: float) -> str:
    return f"{time.monotonic() - started:5.1f} s"
