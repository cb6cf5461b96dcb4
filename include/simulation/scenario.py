"""Who asks for what, of which workers: everything a run needs besides its load, its seed and its policy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from include.contracts.control import ModelDefaults, ModelRoute, Policy
from include.contracts.dispatch import ModelRef
from include.contracts.events import Lane
from include.contracts.policy import LaneRule, default_quotas
from include.contracts.requests import ServiceClass, Tier
from include.routing.catalog import Catalog
from include.simulation.policy import WorkerSpec
from include.simulation.service_times import RenderTimes, ServiceTimes

POOL = "standard"
START = 1_000_000.0  #: when a synthetic run begins, in seconds since 1970


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of request that tenants send."""

    model: str
    side: int  #: pixels; images are square
    steps: int
    guidance: float = 1.0

    @property
    def pixels(self) -> int:
        return self.side * self.side

    @property
    def guided(self) -> bool:
        return self.guidance > 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Tenant:
    """One source of requests. Tenants of the same tier and service class are equally entitled, whatever they ask for."""

    name: str
    tier: Tier
    service_class: ServiceClass
    demand: float  #: share of the whole load in device seconds
    kinds: Mapping[Kind, float]  #: weights by number of requests


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A fleet and its tenants. Demands sum to 1, so that a load of 1 is what the fleet can do."""

    tenants: tuple[Tenant, ...]
    routes: tuple[ModelRoute, ...]
    policy: Policy
    times: Mapping[tuple[str, str], RenderTimes]
    workers: int = 8
    slots: int = 2
    max_batch: int = 4
    sigma: float = 0.1  #: of the logarithm of service times
    link_s: float = 0.005  #: between scheduler and worker, one way
    heartbeat_s: float = 10.0
    tick_s: float = 0.1
    start: float = START

    def fleet(self) -> list[WorkerSpec]:
        warm = tuple(route.champion.key for route in self.routes if route.champion is not None)
        names = [f"w-{number}" for number in range(self.workers)]
        return [WorkerSpec(id=name, pool=POOL, slots=self.slots, max_batch=self.max_batch, warm=warm) for name in names]

    def service_times(self, seed: int) -> ServiceTimes:
        return ServiceTimes(tables=self.times, sigma=self.sigma, seed=seed)

    def catalog(self) -> Catalog:
        """What a request becomes, as the router sees it."""
        catalog = Catalog(self.policy, "")
        for route in self.routes:
            catalog.put(route)
        return catalog

    def under(self, policy: Policy) -> Scenario:
        """The same fleet and tenants under another policy. Leases outlast the scenario's rare heartbeats, whatever the policy says."""
        return replace(self, policy=policy.model_copy(update={"lease_s": max(policy.lease_s, self.policy.lease_s)}))

    def with_models(self, names: Iterable[str]) -> Scenario:
        """Also serve these models, as slow as the default one; what is served already stays as it is."""
        known = {route.name for route in self.routes}
        default = next(route for route in self.routes if route.is_default)
        added = [
            _route(name, default.defaults.step_s, default.defaults.steps, default.defaults.guidance) for name in sorted(set(names) - known)
        ]
        times = {(route.name, pool): times for route in added for (name, pool), times in self.times.items() if name == default.name}
        return replace(self, routes=(*self.routes, *added), times={**self.times, **times})

    def lanes(self) -> dict[tuple[ServiceClass, Tier], Lane]:
        """The lane of each class and tier, whatever a request costs."""
        return {(rule.service_class, rule.tier): rule.lane for rule in self.policy.lanes}

    def full_batch(self, kind: Kind, times: ServiceTimes) -> tuple[int, float]:
        """The largest micro-batch within the workers' limit and the policy's ``batch_s``, one request at least; and its device seconds."""
        seconds = [times.expected(kind.model, kind.pixels, kind.steps, kind.guided, size, POOL) for size in range(1, self.max_batch + 1)]
        size = max((size for size, cost in enumerate(seconds, start=1) if cost <= self.policy.batch_s), default=1)
        return size, seconds[size - 1]

    def cost_s(self, kind: Kind, times: ServiceTimes) -> float:
        """Device seconds of one request at best, which is in a full micro-batch."""
        size, seconds = self.full_batch(kind, times)
        return seconds / size

    def rates(self, load: float) -> dict[Tenant, float]:
        """Requests a second by tenant, so that all together ask for ``load`` times what the fleet can do at best."""
        times = self.service_times(0)
        rates = {}
        for tenant in self.tenants:
            total = sum(tenant.kinds.values())
            mean_s = sum(self.cost_s(kind, times) * weight / total for kind, weight in tenant.kinds.items())
            rates[tenant] = load * self.workers * tenant.demand / mean_s
        return rates


#: Throughput against single images as others measured it: a batch helps small images and hardly a large one.
_GAIN = {
    512 * 512: {1: 1.0, 2: 1.82, 4: 2.77, 8: 3.14},
    768 * 768: {1: 1.0, 2: 1.3, 4: 1.5},
    1024 * 1024: {1: 1.0, 2: 1.02, 4: 1.03},
}
_FINISH_S = {512 * 512: 0.05, 768 * 768: 0.1, 1024 * 1024: 0.2}

STUDIO = RenderTimes(setup_s=0.08, finish_s=_FINISH_S, step_s={512 * 512: 0.016, 768 * 768: 0.032, 1024 * 1024: 0.06}, gain=_GAIN)
SWIFT = RenderTimes(setup_s=0.05, finish_s=_FINISH_S, step_s={512 * 512: 0.02, 768 * 768: 0.04, 1024 * 1024: 0.08}, gain=_GAIN)

DRAFT = Kind(model="swift", side=512, steps=4)
QUICK = Kind(model="swift", side=768, steps=8)
PLAIN = Kind(model="studio", side=512, steps=20, guidance=5.0)
MEDIUM = Kind(model="studio", side=768, steps=24, guidance=5.0)
LARGE = Kind(model="studio", side=1024, steps=24, guidance=5.0)


def _route(name: str, step_s: float, steps: int, guidance: float) -> ModelRoute:
    champion = ModelRef(name=name, version="1", digest="0" * 64, source="mlflow-artifacts:/1")
    defaults = ModelDefaults(width=512, height=512, steps=steps, guidance=guidance, step_s=step_s)
    return ModelRoute(name=name, champion=champion, defaults=defaults, is_default=name == "studio", at=0.0)


def _mixed_tenants() -> tuple[Tenant, ...]:
    small, mixed, costly = {DRAFT: 2, QUICK: 2, PLAIN: 1}, {PLAIN: 1, QUICK: 2, MEDIUM: 2}, {MEDIUM: 2, LARGE: 1}
    realtime, batch = ServiceClass.REALTIME, ServiceClass.BATCH
    rows: list[tuple[str, Tier, ServiceClass, float, dict[Kind, int]]] = [
        ("atlas", Tier.ENTERPRISE, realtime, 0.06, {DRAFT: 2, PLAIN: 2}),
        ("borealis", Tier.ENTERPRISE, realtime, 0.03, {DRAFT: 2, QUICK: 1}),
        ("cobalt", Tier.PRO, realtime, 0.06, {PLAIN: 2, QUICK: 1}),
        ("dune", Tier.PRO, realtime, 0.03, {DRAFT: 2, PLAIN: 1}),
        ("ember", Tier.PRO, realtime, 0.04, {QUICK: 2, MEDIUM: 1}),
        ("fjord", Tier.FREE, realtime, 0.12, small),
        ("grove", Tier.FREE, realtime, 0.06, mixed),
        ("harbor", Tier.FREE, realtime, 0.06, costly),
        ("iris", Tier.FREE, realtime, 0.03, small),
        ("juno", Tier.ENTERPRISE, batch, 0.08, mixed),
        ("kelp", Tier.ENTERPRISE, batch, 0.04, costly),
        ("lumen", Tier.PRO, batch, 0.12, costly),
        ("maple", Tier.PRO, batch, 0.07, mixed),
        ("nimbus", Tier.FREE, batch, 0.12, mixed),
        ("onyx", Tier.FREE, batch, 0.05, costly),
        ("pearl", Tier.FREE, batch, 0.03, small),
    ]
    return tuple(Tenant(name=name, tier=tier, service_class=cls, demand=share, kinds=kinds) for name, tier, cls, share, kinds in rows)


_LANES = {
    (ServiceClass.REALTIME, Tier.ENTERPRISE): Lane.HIGH,
    (ServiceClass.REALTIME, Tier.PRO): Lane.HIGH,
    (ServiceClass.REALTIME, Tier.FREE): Lane.NORMAL,
    (ServiceClass.BATCH, Tier.ENTERPRISE): Lane.NORMAL,
    (ServiceClass.BATCH, Tier.PRO): Lane.LOW,
    (ServiceClass.BATCH, Tier.FREE): Lane.LOW,
}

#: Requests of one tenant that may wait. So small that all tenants of a batch lane together don't fill it: the batch topic is first in first
#: out, so whoever fills a lane would otherwise keep the others out of the fair queue, in Kafka.
_MAX_QUEUED = {Tier.FREE: 30, Tier.PRO: 30, Tier.ENTERPRISE: 8}


def mixed(*, workers: int = 8) -> Scenario:
    """Sixteen tenants of all tiers and classes on a small fleet.

    At load 1 the high lane (realtime of pro and enterprise, mostly small images) asks for 22 % of what the fleet can do, the normal lane
    (realtime free, batch enterprise) for 39 %, the low lane (batch of pro and free) for 39 %. Demands inside a lane differ up to
    fourfold, single requests cost from 0.2 to 3.2 device seconds. Lane bounds are 0.75, 30 and 60 seconds of the whole fleet: what the high
    lane can't take at once is degraded, then refused, rather than kept waiting. Realtime requests are degraded from 40 % of a bound on.
    """
    lanes = tuple(LaneRule(service_class=service_class, tier=tier, lane=lane) for (service_class, tier), lane in _LANES.items())
    policy = Policy(
        at=0.0,
        lanes=lanes,
        lease_s=3600.0,  # outlasts any wait behind another lease, so that heartbeats may be rare
        lane_bound_s={Lane.HIGH: 0.75 * workers, Lane.NORMAL: 30.0 * workers, Lane.LOW: 60.0 * workers},
        lane_objective_s={Lane.HIGH: 2.0, Lane.NORMAL: 60.0, Lane.LOW: 600.0},
        quotas={tier: quota.model_copy(update={"max_queued": _MAX_QUEUED[tier]}) for tier, quota in default_quotas().items()},
        degrade_from=0.4,
        batch_s=2.0,
    )
    return Scenario(
        tenants=_mixed_tenants(),
        routes=(_route("studio", 0.016, 20, 5.0), _route("swift", 0.02, 4, 1.0)),
        policy=policy,
        times={("studio", POOL): STUDIO, ("swift", POOL): SWIFT},
        workers=workers,
    )
