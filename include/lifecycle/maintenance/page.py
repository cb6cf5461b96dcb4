"""A plan for people: lines for the task's log, and a self-contained page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from html import escape

from include.lifecycle.maintenance.items import DAY_S, Item, Plan

IN_LOG = 200  #: lines of things that go; the page has them all
KEPT_ON_PAGE = 2000

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Maintenance plan</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; margin: 0 0 1.5rem; width: 100% }}
td, th {{ border-bottom: 1px solid #8884; padding: .25rem 1rem .25rem 0; text-align: left; overflow-wrap: anywhere; vertical-align: top }}
td.number {{ text-align: right; white-space: nowrap }}
</style>
<h1>Maintenance plan</h1>
<p>Made {made}. {summary}</p>
{problems}
<h2>Goes</h2>
{going}
<h2>Stays</h2>
{kept}
<h2>Limits</h2>
{limits}
</html>
"""


def log_lines(plan: Plan) -> Iterator[str]:
    going = plan.going
    rows = [("what", "size", "age", "why"), *(_cells(item) for item in going[:IN_LOG])]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    if going:
        yield from (f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}" for row in rows)
    if len(going) > IN_LOG:
        yield f"and {len(going) - IN_LOG} more, which the page in MLflow lists"
    for (kind, why), count in Counter((item.kind, item.why) for item in plan.items if not item.goes).most_common(50):
        yield f"stays: {count} x {kind}: {why}"
    yield from (f"not looked at: {problem}" for problem in plan.problems)
    yield summary(plan)


def summary(plan: Plan) -> str:
    return f"{len(plan.going)} of {len(plan.items)} things go, which frees {size(plan.bytes)}."


def page(plan: Plan) -> str:
    kept = [item for item in plan.items if not item.goes]
    more = f"<p>And {len(kept) - KEPT_ON_PAGE} more.</p>" if len(kept) > KEPT_ON_PAGE else ""
    return _PAGE.format(
        made=datetime.fromtimestamp(plan.made_at, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        summary=escape(summary(plan)),
        problems="".join(f"<p>Not looked at: {escape(problem)}</p>" for problem in plan.problems),
        going=_table(plan.going),
        kept=_table(kept[:KEPT_ON_PAGE]) + more,
        limits=_limits(plan),
    )


def size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def _cells(item: Item) -> tuple[str, str, str, str]:
    return f"{item.kind} {item.name}", size(item.bytes), f"{item.age_s / DAY_S:.1f} days", item.why


def _table(items: Sequence[Item]) -> str:
    if not items:
        return "<p>Nothing.</p>"
    rows = "".join(
        f'<tr><td>{escape(what)}</td><td class="number">{takes}</td><td class="number">{age}</td><td>{escape(why)}</td></tr>'
        for what, takes, age, why in map(_cells, items)
    )
    return f"<table><tr><th>what</th><th>size</th><th>age</th><th>why</th></tr>{rows}</table>"


def _limits(plan: Plan) -> str:
    fields = type(plan.limits).model_fields
    rows = "".join(
        f"<tr><td>{name}</td><td>{'none' if value is None else f'{value:g}'}</td><td>{escape(fields[name].description or '')}</td></tr>"
        for name, value in plan.limits.model_dump().items()
    )
    return f"<table><tr><th>limit</th><th>value</th><th>of</th></tr>{rows}</table>"
