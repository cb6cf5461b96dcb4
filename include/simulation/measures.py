"""What is measured of a finished run, inside a window in which it was steady."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from include.contracts.events import Lane, State
from include.contracts.requests import Tier
from include.simulation.ledger import Columns, Floats
from include.simulation.scenario import Scenario

#: A tenant counts as backlogged that had something waiting in this share of the window's moments.
BACKLOGGED = 0.98
_MOMENTS = 400


@dataclass(frozen=True, kw_only=True)
class Measures:
    """Of one policy at one load, between ``start`` and ``end`` of the window.

    - ``p99_s``: by lane, the 99th percentile of whole waits, from the arrival on its topic to the start of the render on the worker,
      which includes waiting behind the micro-batch that runs there. Of all waits that ended in the window, and of those that still
      last at its end with what they have lasted: what never gets its turn must not count as if it were not there. None for an empty lane.
    - ``low_share``: the low lane's part of the device time used in the window.
    - ``jain_gpu_seconds``: Jain's index of device seconds got in the window by tenants of the same lane and tier that were backlogged all
      through it (something of theirs waited at 98 % of its moments, in the policy or in the batch topic); of the least fair such group.
      None where no group has two.
    - ``goodput``: completed requests a second that began to render within their lane's objective.
    - ``slo_attainment``: their part of all requests that arrived in the window early enough for the objective to be over at its end.
      Refused, expired and unfinished ones have missed it.
    - ``utilisation``: device seconds used over device seconds there were.
    - ``past_bound``: requests admitted in the run that waited, or still wait, longer from their admission to the start of
      their render than they were promised when they were admitted. 0 where a policy promises nothing.
    - ``low_floor``: the least share of device time that was guaranteed to the low lane at any time of the run, None without guarantees.
    - ``refused``, ``degraded``: their parts of the requests that arrived in the window.
    - ``estimate_coverage``: of the requests with an estimate that began in the window, the part that began within its band.
    """

    p99_s: dict[Lane, float | None]
    low_share: float
    jain_gpu_seconds: float | None
    goodput: float
    slo_attainment: float
    utilisation: float
    past_bound: int
    low_floor: float | None
    refused: float
    degraded: float
    estimate_coverage: float | None


def measure(run: Columns, scenario: Scenario, *, warm_up_s: float) -> Measures:
    """``warm_up_s``: when the window starts, counted from the scenario's start; it ends with the run."""
    window = _Window(run, scenario.start + warm_up_s)
    met, due = _objectives(run, scenario, window)
    arrived = window.contains(run["arrived"])
    return Measures(
        p99_s={lane: _p99(_waits(run, window, lane)) for lane in Lane},
        low_share=_share(run, window, Lane.LOW),
        jain_gpu_seconds=_least_jain(run, window),
        goodput=float(np.sum(met & window.contains(run["ended"]))) / window.length,
        slo_attainment=_mean(met[due]),
        utilisation=float(window.gpu_s.sum()) / (scenario.workers * window.length),
        past_bound=_past_bound(run),
        low_floor=min((shares[Lane.LOW] for _, shares in run.shares), default=None),
        refused=_mean(run.in_state(State.REFUSED)[arrived]),
        degraded=_mean(run.degraded[arrived] > 0),
        estimate_coverage=_coverage(run, window),
    )


class _Window:
    def __init__(self, run: Columns, start: float) -> None:
        self.start, self.end = start, run.end
        self.length = run.end - start
        self.gpu_s = _inside(run, start, run.end)

    def contains(self, times: Floats) -> NDArray[np.bool_]:
        return np.asarray((times >= self.start) & (times < self.end))


def _inside(run: Columns, start: float, end: float) -> Floats:
    """Device seconds of each request that fall between two times; a render's are spread evenly over it."""
    began, rendered = run["started"], run["rendered"]
    overlap = np.clip(np.minimum(rendered, end) - np.maximum(began, start), 0.0, None)
    length = rendered - began
    known = length > 0
    return np.where(known, run["gpu_s"] * overlap / np.where(known, length, 1.0), 0.0)


def _waits(run: Columns, window: _Window, lane: Lane) -> Floats:
    began = window.contains(run["started"])
    still = np.isnan(run["started"]) & np.isnan(run["ended"])
    until = np.where(still, window.end, run["started"])
    return np.asarray((until - run["arrived"])[run.in_lane(lane) & (began | still)])


def waits_over_time(run: Columns, scenario: Scenario, lane: Lane, every_s: float) -> tuple[Floats, Floats]:
    """Minutes since the start, and the 99th percentile of waits that ended in each period that had any.

    Of a period in which the lane waited and nothing of it began, how long its oldest had waited by then: a lane that is never served must
    not look as if nobody waited.
    """
    arrived, began = run["arrived"][run.in_lane(lane)] - scenario.start, run["started"][run.in_lane(lane)] - scenario.start
    ended = run["ended"][run.in_lane(lane)] - scenario.start
    left = np.nan_to_num(np.fmin(began, ended), nan=np.inf)
    minutes, waits, length = [], [], run.end - scenario.start
    for period in range(ceil(length / every_s)):
        until = min((period + 1) * every_s, length)
        inside = (began >= period * every_s) & (began < until)
        waiting = (arrived < until) & (left >= until)
        if inside.any():
            waits.append(float(np.percentile((began - arrived)[inside], 99)))
        elif waiting.any():
            waits.append(until - float(arrived[waiting].min()))
        else:
            continue
        minutes.append((period + 0.5) * every_s / 60)
    return np.array(minutes), np.array(waits)


def _p99(waits: Floats) -> float | None:
    return float(np.percentile(waits, 99)) if len(waits) else None


def _mean(flags: NDArray[np.bool_]) -> float:
    return float(flags.mean()) if len(flags) else 0.0


def _share(run: Columns, window: _Window, lane: Lane) -> float:
    used = float(window.gpu_s.sum())
    return float(window.gpu_s[run.in_lane(lane)].sum()) / used if used else 0.0


def _objectives(run: Columns, scenario: Scenario, window: _Window) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which requests met their lane's objective, and of which it is known."""
    objective = np.array([scenario.policy.lane_objective_s[lane] for lane in Lane])[run.lane]
    met = run.in_state(State.COMPLETED) & (run["started"] - run["arrived"] <= objective)
    return met, window.contains(run["arrived"]) & (run["arrived"] + objective < window.end)


def _past_bound(run: Columns) -> int:
    began = np.where(np.isnan(run["started"]), np.where(np.isnan(run["ended"]), run.end, run["ended"]), run["started"])
    return int(np.sum(began - run["admitted"] > run["bound_s"]))


def _coverage(run: Columns, window: _Window) -> float | None:
    told = window.contains(run["started"]) & ~np.isnan(run["likely_low_s"])
    if not told.any():
        return None
    # What was estimated is the wait for the dispatch.
    waited = (run["dispatched"] - run["admitted"])[told]
    return _mean((waited >= run["likely_low_s"][told]) & (waited <= run["likely_high_s"][told]))


def jain(values: Floats) -> float:
    """1 where all are equal, 1/n where one has everything (Jain, Chiu and Hawe 1984)."""
    squares = float(np.sum(values**2))
    return float(np.sum(values)) ** 2 / (len(values) * squares) if squares else 1.0


def _least_jain(run: Columns, window: _Window) -> float | None:
    groups: dict[tuple[Tier, Lane], list[float]] = {}
    for index, (_, tier, lane) in enumerate(run.tenants):
        mine = run.tenant == index
        if _backlogged(run, mine, window):
            groups.setdefault((tier, lane), []).append(float(window.gpu_s[mine].sum()))
    found = [jain(np.array(values)) for values in groups.values() if len(values) > 1]
    return min(found, default=None)


def _backlogged(run: Columns, mine: NDArray[np.bool_], window: _Window) -> bool:
    """Something waited at nearly every one of evenly spread moments; a refused request did not wait."""
    arrived = run["arrived"][mine]
    left = np.fmin(
        np.where(np.isnan(run["dispatched"][mine]), np.inf, run["dispatched"][mine]), np.nan_to_num(run["ended"][mine], nan=np.inf)
    )
    moments = np.linspace(window.start, window.end, _MOMENTS, endpoint=False)
    waiting = np.searchsorted(np.sort(arrived), moments, side="right") - np.searchsorted(np.sort(left), moments, side="right")
    return bool(np.mean(waiting > 0) >= BACKLOGGED)
