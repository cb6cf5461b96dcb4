"""The burst on the page: a chart of waits, what gave way, and why, of one request of each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from markupsafe import Markup

from include.client.operator_views import headline
from include.client.why import Explanation, explain
from include.contracts.errors import ReasonCode
from include.contracts.events import Lane, State
from include.demo.burst import Burst
from include.demo.burst_fates import Fate
from include.demo.charts import Point, scatter_chart

REFUSED_ROWS = {ReasonCode.RATE_LIMITED: "over quota", ReasonCode.OVERLOADED: "lane full"}

#: Which request stands for its kind: the one in the middle by this figure.
KINDS: Mapping[str, Callable[[Fate], float | None]] = {
    "Admitted at once": lambda fate: fate.wait_s if fate.lane is Lane.HIGH and not fate.degraded and not fate.retried else None,
    "Degraded": lambda fate: fate.wait_s if fate.degraded else None,
    "Deferred": lambda fate: fate.held_back_s if fate.deferred else None,
    "Refused by its tenant's quota": lambda fate: _refused_at(fate, ReasonCode.RATE_LIMITED),
    "Refused because its lane was full": lambda fate: _refused_at(fate, ReasonCode.OVERLOADED),
    "Retried": lambda fate: fate.wait_s if fate.retried else None,
}


def burst_context(burst: Burst) -> dict[str, Any]:
    return {
        "chart": Markup(burst_chart(burst)),
        "refusals": REFUSED_ROWS,
        "examples": [_shown(kind, *found) for kind, found in examples(burst).items()],
    }


def burst_chart(burst: Burst) -> str:
    """Lower lanes first, so that the high one lies on top."""
    waited = [fate for fate in burst.fates if fate.wait_s is not None and fate.lane is not None]
    order = list(reversed(Lane))
    points = [_point(fate, burst) for fate in sorted(waited, key=lambda fate: order.index(fate.lane or Lane.LOW))]
    rows = {
        name: [_tick(fate, burst) for fate in burst.fates if fate.refusal and fate.refusal.code is code]
        for code, name in REFUSED_ROWS.items()
    }
    return scatter_chart(points, {name: found for name, found in rows.items() if found}, "Seconds that each request of the burst waited")


def _point(fate: Fate, burst: Burst) -> Point:
    quality = f", {'; '.join(fate.degraded)}" if fate.degraded else ""
    return Point(
        x=fate.sent_at - burst.started_at,
        y=fate.wait_s or 0.0,
        kind=f"lane-{fate.lane}{' degraded' if fate.degraded else ''}",
        title=f"{fate.request.id} of {fate.request.planned.tenant}: {fate.lane} lane, waited {fate.wait_s:.2f} s{quality}",
    )


def _tick(fate: Fate, burst: Burst) -> Point:
    assert fate.refusal is not None
    title = f"{fate.request.id} of {fate.request.planned.tenant}: {fate.refusal.message}"
    return Point(x=fate.sent_at - burst.started_at, y=0.0, kind="refused", title=title)


def examples(burst: Burst) -> dict[str, tuple[Fate, Explanation]]:
    """One request of each kind that there was, with its decision trace as ``atelier why`` tells it."""
    found = {kind: _middle(burst.fates, figure) for kind, figure in KINDS.items()}
    return {kind: (fate, explain(fate.events, burst.letters.get(fate.request.id, ()))) for kind, fate in found.items() if fate}


def _middle(fates: Iterable[Fate], figure: Callable[[Fate], float | None]) -> Fate | None:
    fitting = sorted(
        ((value, number, fate) for number, fate in enumerate(fates) if (value := figure(fate)) is not None and _ended_well(fate))
    )
    return fitting[len(fitting) // 2][2] if fitting else None


def _ended_well(fate: Fate) -> bool:
    return fate.state in (State.COMPLETED, State.REFUSED)


def _refused_at(fate: Fate, code: ReasonCode) -> float | None:
    return fate.sent_at if fate.refusal is not None and fate.refusal.code is code else None


def _shown(kind: str, fate: Fate, explanation: Explanation) -> dict[str, Any]:
    return {
        "kind": kind,
        "id": fate.request.id,
        "headline": headline(explanation),
        "steps": [{"at": f"{step.at_s:.3f}", "title": step.title, "lines": step.lines} for step in explanation.steps],
    }
