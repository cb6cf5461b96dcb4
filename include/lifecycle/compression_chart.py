"""Where the bubbles of a Pareto plot go: latency along, loss of quality up, the network's size as area."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from include.lifecycle.compression_verdicts import CompressionPolicy, Judged, Status, pareto_front

#: For plots on white; the page has colours for light and dark of its own.
COLOURS = {
    Status.ORIGINAL: "#6b645a",
    Status.OFFERED: "#2d7a46",
    Status.WORSE: "#b3261e",
    Status.SLOWER: "#d1812b",
    Status.NO_GAIN: "#a59c8f",
}
LARGEST = 26.0  #: radius of the largest bubble
BEYOND = 3.0  #: what is so many times past a limit is drawn at the edge, with its value, so that the rest can be told apart
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 760, 420, 70, 46, 30, 24


@dataclass(frozen=True, kw_only=True)
class Bubble:
    variant: str
    status: Status
    x: float  #: ms an image
    y: float  #: growth of the kernel distance in percent
    radius: float
    label: str
    title: str


@dataclass(frozen=True, kw_only=True)
class ParetoChart:
    """Bubbles, the front among them, the policy's limits and the axes' ends, all in the axes' units."""

    bubbles: tuple[Bubble, ...]
    front: tuple[Bubble, ...]
    limit_x: float
    limit_y: float
    high_x: float
    low_y: float
    high_y: float

    @classmethod
    def of(cls, found: Sequence[Judged], policy: CompressionPolicy) -> ParetoChart:
        """Needs the original among what was found."""
        original = next(each.figures for each in found if each.status is Status.ORIGINAL and each.figures)
        limit_x = 1000 * original.p50_s * (1 + policy.slower_pct / 100)
        limit_y = policy.quality_worse_pct
        most_y = max([each.quality.worse_pct for each in found if each.quality] + [limit_y])
        least_y = min([each.quality.worse_pct for each in found if each.quality] + [0.0])
        most_x = max([1000 * each.figures.p50_s for each in found if each.figures] + [limit_x])
        edge_x, edge_y = min(most_x, BEYOND * limit_x), min(most_y, BEYOND * max(limit_y, 1.0))
        largest = max(each.figures.network_mb for each in found if each.figures)
        bubbles = tuple(_bubble(each, edge_x, edge_y, largest) for each in found if each.figures and each.quality)
        front = {each.variant for each in pareto_front(found)}
        span = edge_y - least_y
        return cls(
            bubbles=bubbles,
            front=tuple(sorted((bubble for bubble in bubbles if bubble.variant in front), key=lambda bubble: bubble.x)),
            limit_x=limit_x,
            limit_y=limit_y,
            high_x=1.12 * edge_x,
            low_y=least_y - 0.15 * span,
            high_y=edge_y + 0.2 * span,
        )

    def px(self, x: float) -> float:
        """From the left edge of a picture of :data:`WIDTH`."""
        return LEFT + x / self.high_x * (WIDTH - LEFT - RIGHT)

    def py(self, y: float) -> float:
        """From the top edge of a picture of :data:`HEIGHT`."""
        return HEIGHT - BOTTOM - (y - self.low_y) / (self.high_y - self.low_y) * (HEIGHT - BOTTOM - TOP)

    @property
    def largest_first(self) -> list[Bubble]:
        """The order to draw in, so that small bubbles are not hidden."""
        return sorted(self.bubbles, key=lambda bubble: -bubble.radius)

    @property
    def labels(self) -> list[Label]:
        return placed(self)

    @property
    def ticks_x(self) -> list[float]:
        return ticks(0, self.high_x)

    @property
    def ticks_y(self) -> list[float]:
        return ticks(self.low_y, self.high_y)


def _bubble(judged: Judged, edge_x: float, edge_y: float, largest: float) -> Bubble:
    figures, quality = judged.figures, judged.quality
    assert figures is not None and quality is not None
    ms, worse = 1000 * figures.p50_s, quality.worse_pct
    far = [text for value, edge, text in ((ms, edge_x, f"{ms:.0f} ms"), (worse, edge_y, f"+{worse:.0f} %")) if value > edge]
    measured = f"{ms:.0f} ms an image, kernel distance {worse:+.1f} %, network {figures.network_mb:.1f} MB"
    return Bubble(
        variant=judged.variant,
        status=judged.status,
        x=min(ms, edge_x),
        y=min(worse, edge_y),
        radius=max(5.0, LARGEST * math.sqrt(figures.network_mb / largest)),
        label=f"{judged.variant} ({', '.join(far)})" if far else judged.variant,
        title=f"{judged.variant}: {measured}; {judged.verdict}",
    )


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Round numbers between the two, some ``about`` of them."""
    raw = (high - low) / about
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    return [round(number * step, 10) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


@dataclass(frozen=True, kw_only=True)
class Label:
    """A bubble's name, in pixels of the picture."""

    text: str
    x: float
    y: float


def placed(chart: ParetoChart) -> list[Label]:
    """Names above their bubbles, moved up or down where two would meet."""
    labels: list[Label] = []
    for bubble in sorted(chart.bubbles, key=lambda bubble: (bubble.y, bubble.x)):
        half = 3.6 * len(bubble.label)
        x = min(max(chart.px(bubble.x), LEFT + half), WIDTH - half)
        above, below = chart.py(bubble.y) - bubble.radius - 5, chart.py(bubble.y) + bubble.radius + 13
        ways = [way for step in range(8) for way in (above - 14 * step, below + 14 * step) if TOP - 8 < way < HEIGHT - BOTTOM]
        free = [y for y in ways if all(abs(y - one.y) > 12 or abs(x - one.x) > half + 3.6 * len(one.text) for one in labels)]
        labels.append(Label(text=bubble.label, x=x, y=(free or ways or [above])[0]))
    return labels
