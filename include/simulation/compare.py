"""The same arrivals on the same workers under several policies, side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from include.contracts.control import Policy as PolicyTable
from include.simulation.baselines import BaselinePolicy, CountRoundRobinOrder, FifoOrder, StrictOrder
from include.simulation.engine import Simulation, Watch
from include.simulation.ledger import Columns
from include.simulation.measures import Measures, measure
from include.simulation.ours import OwnPolicy
from include.simulation.policy import Arrival, Policy
from include.simulation.scenario import Scenario

#: Makes the arrivals anew for each policy, the same each time.
Arrivals = Callable[[], Iterable[Arrival]]

POLICIES: dict[str, Callable[[Scenario], Policy]] = {
    "ours": OwnPolicy,
    "fifo": partial(BaselinePolicy, order=FifoOrder),
    "strict": partial(BaselinePolicy, order=StrictOrder),
    "count_round_robin": partial(BaselinePolicy, order=CountRoundRobinOrder),
}


@dataclass(frozen=True, kw_only=True)
class Result:
    """One policy's run."""

    policy: str
    run: Columns
    measures: Measures
    requests_per_s: float  #: simulated, by this process's CPU time


def compare(
    scenario: Scenario,
    arrivals: Arrivals,
    *,
    policies: Iterable[str] = tuple(POLICIES),
    tables: Mapping[str, PolicyTable] | None = None,
    seconds: float,
    warm_up_s: float,
    seed: int = 0,
    watch: Callable[[str], Watch] | None = None,
) -> list[Result]:
    """Raises :class:`KeyError` for a policy that is none of :data:`POLICIES`.

    :param tables: further policies by name: the router's own scheduler under a policy table of somebody's own. All are judged by the
        scenario's objectives.
    """
    known = POLICIES | {name: partial(OwnPolicy, table=table) for name, table in (tables or {}).items()}
    results = []
    for name in (*policies, *(tables or ())):
        simulation = Simulation(scenario, known[name](scenario), seed=seed, watch=watch(name) if watch else None)
        began = time.process_time()
        run = simulation.run(arrivals(), seconds)
        spent = time.process_time() - began
        measures = measure(run, scenario, warm_up_s=warm_up_s)
        results.append(Result(policy=name, run=run, measures=measures, requests_per_s=len(run) / spent))
    return results
