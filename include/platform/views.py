"""What the `atelier` command draws."""

from __future__ import annotations

from collections.abc import Iterable

from rich.markup import escape
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


def status_table(rows: Iterable[ServiceStatus]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, width in (("service", 21), ("state", 11), ("pid", 7), ("uptime", 6)):
        table.add_column(column, no_wrap=True, min_width=width)
    table.add_column("url", no_wrap=True, overflow="ellipsis", max_width=46)
    table.add_column("last log line, or what is wrong", overflow="ellipsis", no_wrap=True, ratio=1)
    for row in rows:
        said = Text(row.reason, "red" if row.state is not State.STARTING else "yellow") if row.reason else Text(row.last_log, "dim")
        uptime = duration(row.uptime_s) if row.pid else ""
        table.add_row(row.name, Text(row.state, STATE_STYLE[row.state]), str(row.pid or ""), uptime, escape(row.url), said)
    return table


def progress_table(rows: Iterable[Progress]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(3):
        table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for row in rows:
        seconds = "" if row.phase == "waiting" else f"{row.seconds:5.1f} s"
        reason = "" if row.phase == "healthy" else row.reason
        table.add_row(row.service.name, Text(row.phase, PHASE_STYLE.get(row.phase, "yellow")), seconds, Text(reason, "dim"))
    return table
