"""One lane's queue: fair between tenants in device seconds, earliest deadline first inside a tenant, compatible requests at hand."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass, field

from include.scheduling.records import Entry, Shape


@dataclass(slots=True, eq=False)
class _Tenant:
    order: int  #: breaks ties between equal tags, first come first served
    tag: float = 0.0  #: virtual start time of its head
    heap_tag: float | None = None  #: the tag of its valid entry in the lane's heap
    waiting: dict[str, Entry] = field(default_factory=dict)
    heap: list[tuple[float, int, Entry]] = field(default_factory=list)

    def push(self, entry: Entry) -> None:
        self.waiting[entry.id] = entry
        heapq.heappush(self.heap, (entry.deadline, entry.seq, entry))

    def discard(self, entry: Entry) -> None:
        del self.waiting[entry.id]
        if len(self.heap) > 2 * len(self.waiting) + 64:
            self.heap = [item for item in self.heap if self.waiting.get(item[2].id) is item[2]]
            heapq.heapify(self.heap)

    def head(self) -> Entry:
        while self.waiting.get(self.heap[0][2].id) is not self.heap[0][2]:
            heapq.heappop(self.heap)
        return self.heap[0][2]


class FairQueue:
    """Start-time fair queueing (Goyal, Vin and Cheng 1996) over tenants, in predicted device seconds.

    Each tenant has a tag, the virtual time at which its head may start. The tenant with the lowest tag is served, the lane's virtual
    time becomes that tag, and the tenant's tag grows by what it was served. A tenant that comes back from idleness starts at the
    lane's virtual time, so idleness saves nothing up. Two tenants that stay backlogged differ in device seconds served by at
    most the largest request of the one plus the largest of the other: the served one had the lowest tag, so no tag runs ahead of another
    by more than its own last request. Filling a micro-batch out of turn charges the tenant all the same.

    This is deficit round robin without a quantum: O(log tenants) a decision however large requests are. Everything is O(log n).
    """

    def __init__(self) -> None:
        self.virtual_time = 0.0
        self.queued_s = 0.0  #: predicted device seconds
        self._tenants: dict[str, _Tenant] = {}
        self._active: list[tuple[float, int, str]] = []
        self._by_shape: dict[Shape, OrderedDict[str, Entry]] = {}
        self._arrivals: OrderedDict[str, Entry] = OrderedDict()
        self._head: Entry | None = None

    def __len__(self) -> int:
        return len(self._arrivals)

    def push(self, entry: Entry) -> None:
        self._head = None
        tenant = self._tenants.get(entry.tenant)
        if tenant is None:
            tenant = self._tenants[entry.tenant] = _Tenant(order=entry.seq, tag=self.virtual_time)
        tenant.push(entry)
        if len(tenant.waiting) == 1:
            tenant.tag = max(tenant.tag, self.virtual_time)
            self._activate(entry.tenant, tenant)
        if not entry.alone:
            self._by_shape.setdefault(entry.shape, OrderedDict())[entry.id] = entry
        self._arrivals[entry.id] = entry
        self.queued_s += entry.predicted_s

    def remove(self, entry: Entry) -> None:
        """Take it out without charging its tenant: cancelled, expired, parked."""
        self._head = None
        tenant = self._tenants[entry.tenant]
        tenant.discard(entry)
        if not tenant.waiting:
            tenant.heap_tag = None
        if not entry.alone:
            alike = self._by_shape[entry.shape]
            del alike[entry.id]
            if not alike:
                del self._by_shape[entry.shape]
        del self._arrivals[entry.id]
        self.queued_s = self.queued_s - entry.predicted_s if self._arrivals else 0.0

    def head(self) -> Entry:
        """Whose turn it is. Raises :class:`IndexError` when empty."""
        if self._head is None:
            self._head = self._tenants[self._turn()].head()
        return self._head

    def serve(self, entry: Entry, *, in_turn: bool) -> None:
        """Take it out as dispatched and charge its tenant; virtual time only moves with those whose turn it was."""
        if in_turn:
            self.virtual_time = max(self.virtual_time, self._tenants[entry.tenant].tag)
        self.remove(entry)
        self.charge(entry.tenant, entry.predicted_s)

    def charge(self, name: str, seconds: float) -> None:
        """Add to what the tenant was served; negative where a completion cost less than predicted."""
        tenant = self._tenants.get(name)
        if tenant is None:
            return
        self._head = None
        tenant.tag += seconds
        if tenant.waiting:
            self._activate(name, tenant)

    def alike(self, shape: Shape) -> Entry | None:
        """The longest waiting request of a shape that may share a micro-batch."""
        found = self._by_shape.get(shape)
        return next(iter(found.values())) if found else None

    def oldest(self) -> Entry | None:
        return next(iter(self._arrivals.values()), None)

    def entries(self) -> list[Entry]:
        """All of them, in order of arrival in this lane."""
        return list(self._arrivals.values())

    def forget_idle(self) -> None:
        """Drop tenants whose past service can no longer matter."""
        idle = [name for name, tenant in self._tenants.items() if not tenant.waiting and tenant.tag <= self.virtual_time]
        for name in idle:
            del self._tenants[name]

    def _activate(self, name: str, tenant: _Tenant) -> None:
        tenant.heap_tag = tenant.tag
        heapq.heappush(self._active, (tenant.tag, tenant.order, name))
        if len(self._active) > 4 * len(self._tenants) + 64:
            self._active = [(t.tag, t.order, n) for n, t in self._tenants.items() if t.waiting]
            heapq.heapify(self._active)

    def _turn(self) -> str:
        while True:
            tag, _, name = self._active[0]
            tenant = self._tenants.get(name)
            if tenant is not None and tenant.heap_tag == tag:
                return name
            heapq.heappop(self._active)
