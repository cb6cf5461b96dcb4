from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from include.autoscale.rules import ScalingRules
from include.contracts.events import State
from include.planning.cli import simulate
from include.planning.fleets import AutoscaleError, FleetResult, autoscaled
from include.simulation.arrivals import poisson, varying
from include.simulation.policy import Arrival
from include.simulation.scenario import START, Scenario, mixed
from tests.unit.include.simulation.builders import arrival

SCENARIO = mixed(workers=4)


def rules(**changes: object) -> ScalingRules:
    pool = {"min_workers": 1, "max_workers": 6, "start_s": 5.0, "down_after_s": 60.0, "down_every_s": 10.0, **changes}
    return ScalingRules.model_validate({"pools": {"standard": pool}})


def run(arrivals: list[Arrival], seconds: float, scenario: Scenario = SCENARIO, **changes: object) -> FleetResult:
    return autoscaled(scenario, rules(**changes), arrivals, seconds, warm_up_s=0.0, seed=1)


def test_a_burst_brings_workers_within_seconds_and_they_go_when_it_is_over() -> None:
    burst = list(varying(SCENARIO, 0.8, 100.0, 1, lambda at: 1.0 if at >= 60.0 else 0.0, highest=1.0))
    found = run(burst, 500.0)
    first = next(size for size in found.sizes if size.paid > 1)
    assert 60.0 < first.at - START < 75.0
    assert found.most >= 3
    assert found.sizes[-1].running == found.sizes[-1].paid == 1
    assert found.run.in_state(State.COMPLETED).mean() > 0.5
    assert not np.any(found.run.state == -1), "nothing is left behind by workers that went"


def test_an_empty_pool_wakes_for_one_request_and_sleeps_again() -> None:
    found = run([arrival("a", at=START + 20.0)], 120.0, min_workers=0, idle_s=30.0)
    counts = [(size.running, size.paid) for size in found.sizes]
    assert counts[0] == counts[-1] == (0, 0)
    assert (1, 1) in counts
    (wait,) = found.run["started"] - found.run["arrived"]
    assert 5.0 <= wait < 8.0, "the start-up time and one look"
    assert found.run.in_state(State.COMPLETED).all()


def test_steady_load_makes_it_settle() -> None:
    found = run(list(poisson(SCENARIO, 0.4, 400.0, 3)), 400.0, down_after_s=120.0)
    late = [size for size in found.sizes if size.at - START > 200.0]
    assert len({size.paid for size in late}) <= 3
    assert found.changes < 14


def test_the_same_seed_gives_the_same_fleet() -> None:
    first, again = (run(list(poisson(SCENARIO, 0.5, 40.0, 2)), 40.0) for _ in range(2))
    assert first.sizes == again.sizes


def test_hours_are_paid_from_asking_for_a_worker_until_it_is_gone() -> None:
    found = run([], 3600.0 / 4, scenario=replace(SCENARIO, tick_s=1.0))
    assert found.worker_hours == pytest.approx(0.25)
    assert (found.changes_per_h, found.most) == (0.0, 1)


def test_rules_without_the_simulated_pool_are_refused() -> None:
    other = ScalingRules.model_validate({"pools": {"spot": {"max_workers": 1}}})
    with pytest.raises(AutoscaleError, match="the pool standard"):
        autoscaled(SCENARIO, other, [], 1.0, warm_up_s=0.0, seed=0)


def test_the_command_compares_fleets_and_draws_them(tmp_path: Path) -> None:
    file, plot = tmp_path / "autoscale.yaml", tmp_path / "fleet.svg"
    file.write_text("pools: {standard: {max_workers: 4, start_s: 5}}")
    app = typer.Typer()
    app.command()(simulate)
    arguments = ["--autoscale", str(file), "--seconds", "20", "--workers", "2", "--plot", str(plot)]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "autoscaled" in done.output and "2 workers" in done.output and "worker hours" in done.output
    assert "<svg" in plot.read_text()
    file.write_text("pools: {standard: {max_workers: none}}")
    assert "max_workers" in CliRunner().invoke(app, arguments, env={"COLUMNS": "200"}).output
