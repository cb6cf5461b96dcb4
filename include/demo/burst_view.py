"""What the demo shows while the burst runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from include.contracts.events import Lane, SharesEvent, State
from include.demo.burst_fates import Fate, held_back
from include.demo.live import WAITING, workers_table
from include.demo.observer import WorkerView
from include.demo.statistics import percentile

BARS = "▁▂▃▄▅▆▇█"
SLICE_S, SLICES = 2.0, 30
LANE_STYLE = {Lane.HIGH: "red", Lane.NORMAL: "cyan", Lane.LOW: "magenta"}
COLUMNS = ("lane", "share", "queued", "rendering", "done", "degraded", "median wait", "longest", "waits of those sent in each 2 s")


@dataclass(frozen=True, kw_only=True)
class BurstNow:
    """One look at it."""

    fates: Sequence[Fate]
    planned: int  #: how many are going to be sent
    seconds: float  #: since the first
    base_shares: Mapping[Lane, float]
    moves: Sequence[SharesEvent]
    workers: Sequence[WorkerView]
    lag: int | None

    @property
    def shares(self) -> Mapping[Lane, float]:
        return self.moves[-1].after if self.moves else self.base_shares


def burst_view(now: BurstNow) -> RenderableType:
    return Group(Text(headline(now), "dim"), lanes_table(now), Text("\n").join(what_gave_way(now)), workers_table(list(now.workers)))


def burst_line(now: BurstNow) -> str:
    waits = [f"{lane} {_seconds(percentile(waits_of(now.fates, lane), 0.5))}" for lane in Lane]
    return f"  {headline(now)}   median waits: {', '.join(waits)}   {'   '.join(text.plain for text in what_gave_way(now))}"


def headline(now: BurstNow) -> str:
    return f"{now.seconds:5.1f} s   sent {len(now.fates)} of {now.planned}, over {sum(fate.over for fate in now.fates)}"


def lanes_table(now: BurstNow) -> Table:
    table = Table(title="lanes", title_style="bold", title_justify="left", box=None, pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in (COLUMNS[0], COLUMNS[-1]) else "right", min_width=6, no_wrap=True)
    highest = max((fate.wait_s or 0.0 for fate in now.fates), default=0.0)
    for lane in Lane:
        here, waits = [fate for fate in now.fates if fate.lane is lane], waits_of(now.fates, lane)
        counts = (
            sum(fate.state in WAITING for fate in here),
            sum(fate.state is State.PROCESSING for fate in here),
            sum(fate.over for fate in here),
            sum(bool(fate.degraded) for fate in here),
        )
        figures = (_seconds(percentile(waits, 0.5)), _seconds(max(waits, default=None)))
        table.add_row(
            Text(lane, LANE_STYLE[lane]),
            f"{now.shares[lane]:.2f}",
            *map(str, counts),
            *figures,
            Text(sparkline(now.fates, lane, highest), LANE_STYLE[lane]),
        )
    return table


def waits_of(fates: Sequence[Fate], lane: Lane) -> list[float]:
    return [fate.wait_s for fate in fates if fate.lane is lane and fate.wait_s is not None]


def sparkline(fates: Sequence[Fate], lane: Lane, highest: float) -> str:
    """A bar for each two seconds of sending: the median wait of what came then, on one scale for all lanes."""
    start = fates[0].sent_at if fates else 0.0
    slices: list[list[float]] = [[] for _ in range(SLICES)]
    for fate in fates:
        number = int((fate.sent_at - start) / SLICE_S)
        if fate.lane is lane and fate.wait_s is not None and number < SLICES:
            slices[number].append(fate.wait_s)
    return "".join(_bar(percentile(waits, 0.5), highest) for waits in slices).rstrip()


def _bar(value: float | None, highest: float) -> str:
    return " " if value is None else BARS[min(len(BARS) - 1, int(len(BARS) * value / max(highest, 1e-9)))]


def what_gave_way(now: BurstNow) -> list[Text]:
    lag = "" if now.lag is None else f" ({now.lag} of them in Kafka)"
    waiting, deferred = held_back(now.fates), sum(fate.deferred for fate in now.fates)
    lines = [
        Text.assemble(("degraded  ", "bold"), degraded_words(now.fates)),
        Text.assemble(("deferred  ", "bold"), f"{waiting} batch requests wait before the scheduler{lag}, {deferred} did and came in"),
        Text.assemble(("refused   ", "bold"), refused_words(now.fates)),
    ]
    if now.moves:
        lines.append(Text.assemble(("shares    ", "bold"), f"moved {len(now.moves)} times; {now.moves[-1].reason}"))
    return lines


def degraded_words(fates: Sequence[Fate]) -> str:
    """How many, and to how much of what they asked for."""
    counts = Counter(words for fate in fates for words in fate.degraded)
    if not counts:
        return "none"
    most = ", ".join(f"{count} to {words}" for words, count in counts.most_common(4))
    return f"{sum(bool(fate.degraded) for fate in fates)}: {most}{', …' if len(counts) > 4 else ''}"


def refused_words(fates: Sequence[Fate]) -> str:
    """How many for which reason, and when they may come back."""
    refusals = [fate.refusal for fate in fates if fate.refusal]
    parts = []
    for code, count in Counter(reason.code for reason in refusals).most_common():
        after = [reason.retry_after_s for reason in refusals if reason.code is code and reason.retry_after_s is not None]
        parts.append(f"{count} {code.replace('_', ' ')}{f', come back in {_range(after)} s' if after else ''}")
    return "; ".join(parts) or "none"


def _range(values: Sequence[float]) -> str:
    least, most = f"{min(values):.1f}", f"{max(values):.1f}"
    return least if least == most else f"{least} to {most}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"
