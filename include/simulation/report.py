"""Results for people: a table, and waits over time as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from include.contracts.events import Lane
from include.simulation.compare import Result
from include.simulation.measures import waits_over_time
from include.simulation.scenario import Scenario

PLOT_SUFFIXES = (".png", ".svg", ".pdf")
LANE_COLOURS = {Lane.HIGH: "#0072b2", Lane.NORMAL: "#e69f00", Lane.LOW: "#009e73"}
PLOT_PERIODS = 90
#: What the columns of :func:`table` mean.
LEGEND = """p99: 99 of 100 requests of the lane began to render this soon after their arrival; those that still wait count with their wait
low share: the low lane's part of the device time. Jain: how evenly tenants with equal rights got device time, 1 is even
goodput: requests that began within their lane's objective and completed. SLO met: their part of all. used: of the device time there was
refused, degraded: of all requests. past bound: requests that waited longer than the guarantees said when they were admitted"""


def table(results: Sequence[Result], title: str) -> Table:
    """One row a policy."""
    made = Table(title=title)
    made.add_column("policy")
    for lane in Lane:
        made.add_column(f"{lane} p99", justify="right")
    for name in ("low share", "Jain", "goodput/s", "SLO met", "used", "refused", "degraded", "past bound"):
        made.add_column(name, justify="right")
    for result in results:
        made.add_row(*_row(result))
    return made


def _row(result: Result) -> list[str]:
    found = result.measures
    return [
        result.policy,
        *(seconds_text(found.p99_s[lane]) for lane in Lane),
        percent_text(found.low_share),
        "-" if found.jain_gpu_seconds is None else f"{found.jain_gpu_seconds:.3f}",
        f"{found.goodput:.2f}",
        percent_text(found.slo_attainment),
        percent_text(found.utilisation),
        percent_text(found.refused),
        percent_text(found.degraded),
        str(found.past_bound),
    ]


def seconds_text(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


def percent_text(share: float) -> str:
    return f"{100 * share:.1f} %"


def plot(results: Sequence[Result], scenario: Scenario, path: Path, title: str) -> None:
    """Waits by lane over time, one panel a policy, on a common logarithmic axis. Raises :class:`ValueError` for an unknown suffix."""
    if path.suffix not in PLOT_SUFFIXES:
        raise ValueError(f"{path.name}: a plot is written as {', '.join(PLOT_SUFFIXES)}")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(results), figsize=(1.5 + 4 * len(results), 4), sharey=True, squeeze=False, layout="constrained")
    for panel, result in zip(panels[0], results, strict=True):
        every_s = max(5.0, (result.run.end - scenario.start) / PLOT_PERIODS)
        for lane in Lane:
            minutes, waits = waits_over_time(result.run, scenario, lane, every_s)
            panel.plot(minutes, waits.clip(min=0.01), color=LANE_COLOURS[lane], label=str(lane), linewidth=1.5)
        panel.set(title=result.policy, xlabel="minutes", yscale="log")
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("99 % of waits within, s")
    panels[0][0].legend(loc="upper left")
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
