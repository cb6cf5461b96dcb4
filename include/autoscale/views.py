"""Decisions for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from include.autoscale.sizer import Decision


def decisions_table(decisions: Sequence[Decision]) -> Table:
    """One row a pool."""
    made = Table()
    for name in ("pool", "running", "starting", "draining", "desired", "waits", "arrives", "used"):
        made.add_column(name, justify="left" if name == "pool" else "right", no_wrap=True)
    made.add_column("why", overflow="fold")
    for one in decisions:
        now, used = one.now, one.now.utilisation
        counts = (now.running, now.starting, now.draining)
        desired = f"[bold]{one.after}[/]" if one.changes else str(one.after)
        measured = (f"{one.waiting_s:.1f} s", f"{one.rate:.2f} s/s", "-" if used is None else f"{100 * used:.0f} %")
        made.add_row(one.pool, *map(str, counts), desired, *measured, one.reason)
    return made
