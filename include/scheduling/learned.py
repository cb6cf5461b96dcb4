"""What the scheduler has learned from how things went."""

from __future__ import annotations

from include.routing.cost_model import CostModel
from include.routing.ladder import LadderControl
from include.scheduling.batch_sizes import BatchSizes
from include.scheduling.estimates import DrainRate, WaitEstimator
from include.scheduling.quotas import Quotas
from include.scheduling.shares import ShareControl
from include.scheduling.store import StateStore, Table


class Learned:
    """Costs, batch sizes, waits, load. And the tenants' buckets, which change with every request.

    Written to the store every now and then rather than with each change: a restored scheduler that lost the last seconds of it predicts
    a little worse, and a tenant may get back what it was charged in them.
    """

    def __init__(self, store: StateStore, quotas: Quotas, *, shares_every_s: float) -> None:
        self._store = store
        self._quotas = quotas
        self.costs = CostModel()
        self.batches = BatchSizes()
        self.ladder = LadderControl()
        self.shares = ShareControl(shares_every_s)
        self.waits = WaitEstimator()
        self.drain = DrainRate()
        self.changed_costs: set[str] = set()

    def save(self) -> None:
        for key in self.changed_costs:
            value = self.costs.encode_key(key)
            if value:
                self._put("cost", key, value)
            else:
                self._store.remove(Table.LEARNED, f"cost\t{key}")
        self.changed_costs.clear()
        for key, value in self.batches.changed():
            self._put("batch", key, value)
        for tenant, value in self._quotas.changed():
            self._put("quota", tenant, value)
        for name, value in (("ladder", self.ladder.encode()), ("shares", self.shares.encode()), ("waits", self.waits.encode())):
            self._put(name, "", value)

    def forget_idle(self, now: float) -> None:
        for tenant in self._quotas.forget_idle(now):
            self._store.remove(Table.LEARNED, f"quota\t{tenant}")

    def restore(self) -> None:
        rows: dict[str, list[tuple[str, str]]] = {}
        for name, value in self._store.items(Table.LEARNED):
            kind, _, key = name.partition("\t")
            rows.setdefault(kind, []).append((key, value))
        self.costs.restore(rows.get("cost", ()))
        for key, value in rows.get("batch", ()):
            self.batches.restore(key, value)
        for tenant, value in rows.get("quota", ()):
            self._quotas.restore(tenant, value)
        for name, learner in (("ladder", self.ladder), ("shares", self.shares), ("waits", self.waits)):
            for _, value in rows.get(name, ()):
                learner.restore(value)

    def _put(self, kind: str, key: str, value: str) -> None:
        self._store.put(Table.LEARNED, f"{kind}\t{key}", value)
