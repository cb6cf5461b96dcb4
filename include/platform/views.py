"""What the `atelier` command draws."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from include.platform.service import State
from include.platform.startup import Progress
from include.platform.status import ServiceStatus

STATE_STYLE = {State.HEALTHY: "green", State.STARTING: "yellow", State.UNREACHABLE: "red", State.DOWN: "red"}
PHASE_STYLE = {"healthy": "green", "failed": "red", "waiting": "dim"}


def duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def one_line(text: str, width: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: max(0, width - 1)]}…"


def status_table(rows: Iterable[ServiceStatus], width: int) -> Table:
    """``width`` in characters: the addresses and what was said share what the other columns leave."""
    rows = list(rows)
    address = min(max(len(row.url) for row in rows), max(24, width // 4))
    room = max(16, width - max(len(row.name) for row in rows) - len(State.UNREACHABLE) - 7 - 6 - address - 10)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("service", "state", "pid", "uptime", "url", "last log line"):
        table.add_column(column, no_wrap=True)
    for row in rows:
        style = STATE_STYLE[row.state] if row.reason else "dim"
        said = Text(one_line(row.reason or row.last_log, room), style)
        uptime = duration(row.uptime_s) if row.pid else ""
        table.add_row(row.name, Text(row.state, STATE_STYLE[row.state]), str(row.pid or ""), uptime, one_line(row.url, address), said)
    return table


def progress_table(rows: Iterable[Progress]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(3):
        table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for row in rows:
        seconds = "" if row.phase == "waiting" else f"{row.seconds:5.1f} s"
        reason = "" if row.phase == "healthy" else row.reason
        table.add_row(row.service.name, Text(row.phase, PHASE_STYLE.get(row.phase, "yellow")), seconds, Text(one_line(reason, 200), "dim"))
    return table
