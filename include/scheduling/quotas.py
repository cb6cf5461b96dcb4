"""What each tenant may ask for and use: a token bucket in device seconds, and how many may wait and run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from include.contracts.errors import Reason, ReasonCode
from include.contracts.policy import Quota
from include.contracts.requests import Tier
from include.routing.catalog import Catalog
from include.scheduling.records import Entry


@dataclass(slots=True, eq=False)
class _Use:
    level: float  #: device seconds in the bucket; below 0 after a request larger than what was there
    at: float  #: when the level was true
    full_at: float = 0.0  #: when the bucket is full again
    open: int = 0  #: requests accepted and not over
    running: int = 0  #: of these, with workers
    tier: Tier = Tier.FREE  #: of the last that ran


class Quotas:
    """Every tenant's use against its quota.

    **Bucket.** A request is admitted while the bucket holds its predicted device seconds, or is full: one that costs more than the burst
    leaves a debt instead of never being admitted. Over any period of ``t`` seconds a tenant is therefore admitted at most
    ``burst_s + rate * t`` device seconds, plus one request. A completion gives back what the prediction was too high by, or takes the rest.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._uses: dict[str, _Use] = {}
        self._dirty: set[str] = set()

    def check(self, entry: Entry, now: float) -> Reason | None:
        """Why its tenant may not send this now, None if it may."""
        quota = self._catalog.quota(entry.tenant, entry.request.tier)
        use = self._use(entry.tenant, quota, now)
        if use.open - use.running >= quota.max_queued:
            wait = max(1.0, entry.predicted_s / quota.rate)
            text = f"{entry.tenant} has {quota.max_queued} requests waiting, as many as its quota allows; come back in {wait:.0f} s"
            return Reason(code=ReasonCode.RATE_LIMITED, message=text, retry_after_s=round(wait, 1))
        needed = min(entry.predicted_s, quota.burst_s)
        if use.level + 1e-9 < needed:
            wait = max(0.1, (needed - use.level) / quota.rate)
            text = f"{entry.tenant} may use {quota.rate:g} device seconds a second and has {max(0.0, use.level):.1f} of them left; this"
            text += f" takes {entry.predicted_s:.1f}; come back in {wait:.1f} s"
            return Reason(code=ReasonCode.RATE_LIMITED, message=text, retry_after_s=round(wait, 2))
        return None

    def admit(self, entry: Entry, now: float) -> None:
        """Charge what was checked just now."""
        quota, use = self._catalog.quota(entry.tenant, entry.request.tier), self._uses[entry.tenant]
        use.level -= entry.predicted_s
        use.full_at = now + (quota.burst_s - use.level) / quota.rate
        self._dirty.add(entry.tenant)

    def correct(self, tenant: str, seconds: float) -> None:
        """A completion took so much more than predicted; negative where it took less."""
        use = self._uses.get(tenant)
        if use is not None:
            use.level -= seconds
            self._dirty.add(tenant)

    def opened(self, tenant: str) -> None:
        use = self._uses.get(tenant)
        if use is None:
            use = self._uses[tenant] = _Use(level=float("inf"), at=0.0)
        use.open += 1

    def closed(self, tenant: str) -> None:
        self._uses[tenant].open -= 1

    def started(self, entry: Entry) -> bool:
        """Count one more with a worker; whether its tenant may run no more than that."""
        use = self._uses[entry.tenant]
        use.running += 1
        use.tier = entry.request.tier
        return use.running >= self._catalog.quota(entry.tenant, use.tier).max_running

    def stopped(self, tenant: str) -> bool:
        """Count one less; whether its tenant may still run no more."""
        self._uses[tenant].running -= 1
        return self.is_capped(tenant)

    def is_capped(self, tenant: str) -> bool:
        """Whether so many of its requests run that no other may, by the quota of the tier that last ran."""
        use = self._uses[tenant]
        return use.running >= self._catalog.quota(tenant, use.tier).max_running

    def busy(self) -> list[str]:
        """Tenants with something open."""
        return [name for name, use in self._uses.items() if use.open]

    def forget_idle(self, now: float) -> list[str]:
        """Drop tenants that have nothing open and a full bucket; returns them."""
        idle = [name for name, use in self._uses.items() if not use.open and use.full_at <= now]
        for name in idle:
            del self._uses[name]
        self._dirty.difference_update(idle)
        return idle

    def changed(self) -> Iterable[tuple[str, str]]:
        """Tenants and their buckets, as :meth:`restore` reads them, that changed since this was last asked."""
        uses = [(name, self._uses[name]) for name in self._dirty]
        self._dirty.clear()
        return [(name, f"{use.level!r}\t{use.at!r}\t{use.full_at!r}") for name, use in uses]

    def restore(self, tenant: str, text: str) -> None:
        level, at, full_at = map(float, text.split("\t"))
        self._uses[tenant] = _Use(level=level, at=at, full_at=full_at)

    def _use(self, tenant: str, quota: Quota, now: float) -> _Use:
        """The tenant's use with its bucket filled up to now."""
        use = self._uses.get(tenant)
        if use is None:
            use = self._uses[tenant] = _Use(level=quota.burst_s, at=now)
        use.level = min(quota.burst_s, use.level + quota.rate * max(0.0, now - use.at))
        use.at = now
        return use
