"""Fleets for people: a table, and waits and workers over time as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from include.contracts.events import Lane
from include.planning.fleets import FleetResult
from include.simulation.measures import waits_over_time
from include.simulation.report import LANE_COLOURS, PLOT_PERIODS, percent_text, seconds_text
from include.simulation.scenario import Scenario


def fleet_table(results: Sequence[FleetResult], title: str) -> Table:
    """One row a fleet."""
    made = Table(title=title)
    made.add_column("fleet")
    for name in (*(f"{lane} p99" for lane in Lane), "SLO met", "refused", "degraded", "most", "worker hours", "cost", "changes/h"):
        made.add_column(name, justify="right")
    for result in results:
        found = result.measures
        rates = (percent_text(found.slo_attainment), percent_text(found.refused), percent_text(found.degraded))
        fleet = (str(result.most), f"{result.worker_hours:.2f}", f"{result.cost:.2f}", f"{result.changes_per_h:.1f}")
        made.add_row(result.name, *(seconds_text(found.p99_s[lane]) for lane in Lane), *rates, *fleet)
    return made


def fleet_plot(results: Sequence[FleetResult], scenario: Scenario, path: Path, title: str) -> None:
    """Waits above, workers below, one column a fleet; the format is the suffix's."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        2, len(results), figsize=(1.5 + 5 * len(results), 6), sharex=True, sharey="row", squeeze=False, layout="constrained"
    )
    for column, result in enumerate(results):
        _draw_waits(panels[0][column], result, scenario)
        _draw_workers(panels[1][column], result, scenario)
    panels[0][0].set_ylabel("99 % of waits within, s")
    panels[0][0].legend(loc="upper left")
    panels[1][0].set_ylabel("workers")
    panels[1][0].legend(loc="upper left")
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _draw_waits(panel: Any, result: FleetResult, scenario: Scenario) -> None:
    every_s = max(5.0, (result.run.end - scenario.start) / PLOT_PERIODS)
    for lane in Lane:
        minutes, waits = waits_over_time(result.run, scenario, lane, every_s)
        panel.plot(minutes, waits.clip(min=0.01), color=LANE_COLOURS[lane], label=str(lane), linewidth=1.5)
    panel.set(title=f"{result.name}: {result.worker_hours:.2f} worker hours", yscale="log")
    panel.grid(alpha=0.3)


def _draw_workers(panel: Any, result: FleetResult, scenario: Scenario) -> None:
    minutes = [(at - scenario.start) / 60 for at in (*(size.at for size in result.sizes), result.run.end)]
    for name, style in (("paid", {"color": "#999999", "linestyle": "--"}), ("running", {"color": "#cc79a7"})):
        counts = [getattr(size, name) for size in result.sizes]
        panel.step(minutes, [*counts, counts[-1]], where="post", label=name, **style)
    panel.set(xlabel="minutes")
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.3)
