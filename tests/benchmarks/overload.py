"""Overload in the simulator: the scheduler beside what other systems do, on the same workers and the same arrivals.

Workload (``include.simulation.scenario.mixed``): 8 workers that hold two micro-batches of up to four; 16 tenants, three tiers, both
classes, Poisson arrivals, images of 512² to 1024² with 4 to 24 steps, single requests of 0.2 to 3.2 device seconds, service times with 10
% lognormal noise. At load 1 the high lane (realtime of pro and enterprise) asks for 22 % of the fleet, normal for 39 %, low for 39 %;
tenants of a lane differ up to fourfold in demand, and in what a request costs. Load is in multiples of what the fleet can do at best,
which is with every micro-batch full.

``policies``: policy → load → figures, each inside the steady window (the run without its first third; 2400 of 3600 simulated seconds).
``include.simulation.measures.Measures`` says how each is computed; in short:

- ``p99_s`` by lane: whole waits, from the arrival on the topic to the start of the render, so with the wait in the batch topic and behind
  the micro-batch that runs on the worker; waits that still last at the end of the window count with what they have lasted.
- ``low_share``: the low lane's part of the device time used. A promise only where the low lane is backlogged all the time, as at 3.
- ``jain_gpu_seconds``: Jain's index of device seconds among tenants of one lane and tier that had something waiting throughout; the worst
  group, null where no two tenants were.
- ``goodput``: completions a second that began within their lane's objective (2, 60, 600 s). ``slo_attainment``: their part of all that
  arrived; refused and unfinished ones have missed it. ``utilisation``: device time used over what there was.

``high_p99_ratio``: ours, high lane's p99 at the highest load over that at the lowest. ``low_floor``: ours, the least share of device time
that was guaranteed to the low lane at any time. ``past_bound``: ours, all loads, requests whose render began later after their admission
than they were promised (``include.simulation.promises``), counting those that still waited.

The other policies are unbounded, so at loads above 1 their waits grow with the length of the run.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from typing import Any

from rich.console import Console

from include.simulation.arrivals import poisson
from include.simulation.compare import POLICIES, Result, compare
from include.simulation.measures import Measures
from include.simulation.report import table
from include.simulation.scenario import mixed


def figures(found: Measures) -> dict[str, Any]:
    names = ("low_share", "jain_gpu_seconds", "goodput", "slo_attainment", "utilisation")
    rounded = {name: _rounded(getattr(found, name)) for name in names}
    return {"p99_s": {str(lane): _rounded(wait) for lane, wait in found.p99_s.items()}, **rounded}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def run(load: float, policies: list[str], seconds: float, seed: int) -> list[Result]:
    scenario = mixed()
    arrivals = partial(poisson, scenario, load, seconds, seed)
    return compare(scenario, arrivals, policies=policies, seconds=seconds, warm_up_s=seconds / 3, seed=seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loads", default="0.7,1.5,3", help="multiples of what the fleet can do")
    parser.add_argument("--policies", default=",".join(POLICIES), help="ours must be among them")
    parser.add_argument("--seconds", type=float, default=3600.0, help="simulated, of each run; a third is warm-up")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    loads, policies = arguments.loads.split(","), arguments.policies.split(",")
    found: dict[str, dict[str, Measures]] = {policy: {} for policy in policies}
    for load in loads:
        results = run(float(load), policies, arguments.seconds, arguments.seed)
        Console(file=sys.stderr, width=140).print(table(results, f"load {load}"))
        for result in results:
            found[result.policy][load] = result.measures
    print(json.dumps(summary(found, loads)))


def summary(found: dict[str, dict[str, Measures]], loads: list[str]) -> dict[str, Any]:
    ours = found["ours"]
    highs = [ours[load].p99_s for load in (min(loads, key=float), max(loads, key=float))]
    least, most = (next(iter(waits.values())) for waits in highs)
    floors = [measures.low_floor for measures in ours.values() if measures.low_floor is not None]
    return {
        "policies": {policy: {load: figures(measures) for load, measures in by_load.items()} for policy, by_load in found.items()},
        "high_p99_ratio": _rounded(most / least) if least and most else None,
        "low_floor": _rounded(min(floors)),
        "past_bound": sum(measures.past_bound for measures in ours.values()),
    }


if __name__ == "__main__":
    main()
