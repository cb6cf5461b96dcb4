"""``atelier simulate``: policies under the same load, side by side, without a cluster."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from include.contracts.control import Policy as PolicyTable
from include.simulation.arrivals import RecordingError, bursts, poisson, read_recording
from include.simulation.compare import POLICIES, Result, compare
from include.simulation.engine import Watch
from include.simulation.policy import Arrival
from include.simulation.report import LEGEND, PLOT_SUFFIXES, plot, table
from include.simulation.scenario import Scenario, mixed

_SYNTHETIC = {"poisson": poisson, "burst": bursts}
_AFTERMATH_S = 60.0


@dataclass(frozen=True, kw_only=True)
class _Plan:
    scenario: Scenario
    arrivals: Callable[[], Iterable[Arrival]]
    seconds: float
    warm_up_s: float
    title: str


def simulate(
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help=f"What to run; repeatable. One of {', '.join(POLICIES)}, or a file as `atelier policy` prints it, under which ours runs; "
            "without it, those four."
        ),
    ] = None,
    load: Annotated[
        float, typer.Option(min=0.01, max=100, help="Of Poisson arrivals and bursts, in multiples of the fleet's capacity.")
    ] = 1.5,
    seconds: Annotated[
        float | None, typer.Option(min=1, help="Simulated seconds; without it 900, or the recording and a minute more.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=1000, help="Workers of the fleet.")] = 8,
    seed: Annotated[int, typer.Option(help="The same seed gives the same arrivals and service times.")] = 0,
    arrivals: Annotated[str, typer.Option(help="poisson, burst, or a file of recorded arrivals, one JSON object a line.")] = "poisson",
    plot_path: Annotated[Path | None, typer.Option("--plot", help="Write waits by lane over time there, as .png, .svg or .pdf.")] = None,
    autoscale: Annotated[
        Path | None, typer.Option(help="Rules of `atelier autoscale`: compare a pool of the size that they give with the fixed one.")
    ] = None,
) -> None:
    """Run scheduling policies on simulated workers under the same arrivals; print a table, write a plot."""
    from rich.console import Console

    names, tables = _policies(policy or list(POLICIES))
    if plot_path is not None and plot_path.suffix not in PLOT_SUFFIXES:
        raise typer.BadParameter(f"{plot_path.name} must end in {', '.join(PLOT_SUFFIXES)}", param_hint="--plot")
    plan = _plan(arrivals, load, seconds, workers, seed)
    if autoscale is not None:
        _compare_fleets(plan, autoscale, seed, plot_path)
        return
    results = _run(plan, names, tables, seed)
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(table(results, plan.title))
    console.print(LEGEND)
    console.print(
        f"{len(results[0].run):,} requests; simulated a second: {', '.join(f'{r.policy} {r.requests_per_s:,.0f}' for r in results)}"
    )
    if plot_path is not None:
        plot(results, plan.scenario, plot_path, plan.title)
        console.print(f"waits over time: {plot_path}")


def _policies(wanted: list[str]) -> tuple[list[str], dict[str, PolicyTable]]:
    """Names of systems, and policies of the router from files by the file's name."""
    from include.client.policy import PolicyError, load_policy

    names, tables = [name for name in wanted if name in POLICIES], dict[str, PolicyTable]()
    for name in wanted:
        if name in POLICIES:
            continue
        if not Path(name).is_file():
            words = f"there is no policy {name}; there are {', '.join(POLICIES)}, or give a file as `atelier policy` prints it"
            raise typer.BadParameter(words, param_hint="--policy")
        try:
            tables[Path(name).name] = load_policy(Path(name), "simulation")
        except PolicyError as error:
            raise typer.BadParameter(str(error), param_hint="--policy") from error
    return names, tables


def _plan(arrivals: str, load: float, seconds: float | None, workers: int, seed: int) -> _Plan:
    scenario = mixed(workers=workers)
    make = _SYNTHETIC.get(arrivals)
    if make is None:
        return _recorded_plan(scenario, Path(arrivals), seconds)
    length = seconds or 900.0
    title = f"{arrivals} arrivals at {load:g} times the capacity of {workers} workers, {length:g} s"
    warm_up_s = length / 3 if arrivals == "poisson" else 0.0
    return _Plan(scenario=scenario, arrivals=partial(make, scenario, load, length, seed), seconds=length, warm_up_s=warm_up_s, title=title)


def _recorded_plan(scenario: Scenario, path: Path, seconds: float | None) -> _Plan:
    if not path.is_file():
        raise typer.BadParameter(f"{path} is no file; give one, or {' or '.join(_SYNTHETIC)}", param_hint="--arrivals")
    try:
        recorded = list(read_recording(path))
    except RecordingError as error:
        raise typer.BadParameter(str(error), param_hint="--arrivals") from error
    if not recorded:
        raise typer.BadParameter(f"{path} holds no arrivals", param_hint="--arrivals")
    models = {arrival.request.model for arrival in recorded if arrival.request.model is not None}
    scenario = replace(scenario.with_models(models), start=recorded[0].at)
    length = seconds or recorded[-1].at - recorded[0].at + _AFTERMATH_S
    title = f"{path.name} on {scenario.workers} workers, {length:g} s"
    return _Plan(scenario=scenario, arrivals=lambda: recorded, seconds=length, warm_up_s=0.0, title=title)


def _run(plan: _Plan, names: list[str], tables: dict[str, PolicyTable], seed: int) -> list[Result]:
    span = {"seconds": plan.seconds, "warm_up_s": plan.warm_up_s}
    with _progress(plan) as watch:
        return compare(plan.scenario, plan.arrivals, policies=names, tables=tables, **span, seed=seed, watch=watch)


def _compare_fleets(plan: _Plan, path: Path, seed: int, plot_path: Path | None) -> None:
    from rich.console import Console

    from include.autoscale.rules import RulesError, load_rules
    from include.planning.fleet_report import fleet_plot, fleet_table
    from include.planning.fleets import AutoscaleError, compare_fleets

    try:
        rules = load_rules(path)
        with _progress(plan) as watch:
            results = compare_fleets(
                plan.scenario, rules, plan.arrivals, seconds=plan.seconds, warm_up_s=plan.warm_up_s, seed=seed, watch=watch
            )
    except (RulesError, AutoscaleError) as error:
        raise typer.BadParameter(str(error), param_hint="--autoscale") from error
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(fleet_table(results, plan.title))
    if plot_path is not None:
        fleet_plot(results, plan.scenario, plot_path, plan.title)
        console.print(f"waits and workers over time: {plot_path}")


@contextmanager
def _progress(plan: _Plan) -> Iterator[Callable[[str], Watch]]:
    """A bar for each policy on stderr, moved once for each percent."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as progress:

        def begin(name: str) -> Watch:
            task, percent = progress.add_task(name, total=100), plan.seconds / 100

            def watch(now: float) -> None:
                done = (now - plan.scenario.start) // percent + 1
                if done > progress.tasks[task].completed:
                    progress.update(task, completed=done)

            return watch

        yield begin
