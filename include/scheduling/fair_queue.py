"""One lane's queue: fair between tenants in device seconds, earliest deadline first inside a tenant, compatible requests at hand."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from math import inf

from include.contracts.requests import ServiceClass
from include.scheduling.records import Entry, Pools, Shape

#: A further condition of a request that fills a micro-batch.
Fits = Callable[[Entry], bool]

#: Requests of one shape looked at for one that may fill a micro-batch.
ALIKE_LOOKAHEAD = 16
#: Times that a tenant's next request lets later ones of the tenant go before it in others' micro-batches.
PASSES = 2


@dataclass(slots=True, eq=False)
class _Tenant:
    order: int  #: breaks ties between equal tags, first come first served
    tag: float = 0.0  #: virtual start time of its head
    count: int = 0  #: requests that wait
    queued_s: float = 0.0
    sections: list[_Section] = field(default_factory=list)  #: where it has requests


@dataclass(slots=True, eq=False)
class _Line:
    """One tenant's requests of one section, earliest deadline first."""

    heap_tag: float | None = None  #: the tag of its valid entry in the section's heap
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


class _Section:
    """The requests of a lane that may go to the same pools."""

    __slots__ = ("active", "by_shape", "lines", "pools", "turn_cache")

    def __init__(self, pools: Pools) -> None:
        self.pools = pools
        self.lines: dict[str, _Line] = {}
        self.active: list[tuple[float, int, str]] = []
        self.by_shape: dict[Shape, OrderedDict[str, Entry]] = {}
        self.turn_cache: tuple[float, int, str] | None = None

    def activate(self, name: str, tenant: _Tenant) -> None:
        line = self.lines[name]
        line.heap_tag = tenant.tag
        self.turn_cache = None
        heapq.heappush(self.active, (tenant.tag, tenant.order, name))
        if len(self.active) > 4 * len(self.lines) + 64:
            self.active = list({item for item in self.active if self.is_valid(item)})
            heapq.heapify(self.active)

    def is_valid(self, item: tuple[float, int, str]) -> bool:
        line = self.lines.get(item[2])
        return line is not None and line.heap_tag == item[0]

    def turn(self) -> tuple[float, int, str] | None:
        """Tag, order and name of the tenant that goes next, None if none may."""
        if self.turn_cache is None:
            active = self.active
            while active and not self.is_valid(active[0]):
                heapq.heappop(active)
            self.turn_cache = active[0] if active else None
        return self.turn_cache


class FairQueue:
    """Start-time fair queueing (Goyal, Vin and Cheng 1996) over tenants, in predicted device seconds by weight.

    Each tenant has a tag, the virtual time at which its head may start. The tenant with the lowest tag is served, the lane's virtual
    time becomes that tag, and the tenant's tag grows by what it was served over its weight. A tenant that comes back from idleness starts
    at the lane's virtual time, so idleness saves nothing up.

    **Bound.** Two tenants i and j that stay backlogged, with weights w and largest requests l, differ in service S by
    ``|S_i/w_i - S_j/w_j| <= l_i/w_i + l_j/w_j``: the served one always has the lowest tag, so no tag runs ahead of another by more than
    its own last request, and tags differ from S/w by a constant while both stay backlogged. So a tenant's lag behind its fair share is at
    most its own largest request plus, over its weight, the largest of another. Filling a micro-batch out of turn charges the tenant all
    the same, and is over for it once it is ``ahead_s`` ahead, so the bound grows by that and one request.

    Requests that may go to different pools are in different sections with tags in common, so that one which waits for a full pool holds up
    nobody who could go elsewhere; the bound then holds between tenants whose heads are both free to go. A tenant at its limit of running
    requests is paused: its requests keep their place, and it loses none of its share by resuming, since its tag stood still.

    This is deficit round robin without a quantum: O(log tenants) a decision however large requests are. Everything is O(log n).
    """

    def __init__(self, paused: set[str] | None = None) -> None:
        self.virtual_time = 0.0
        self.queued_s = 0.0  #: predicted device seconds
        self.batch_s = 0.0  #: of these, of batch requests
        self.dirty: set[str] = set()  #: tenants whose tag changed since somebody took note
        self._paused = set() if paused is None else paused
        self._tenants: dict[str, _Tenant] = {}
        self._sections: dict[Pools, _Section] = {}
        self._arrivals: OrderedDict[str, Entry] = OrderedDict()
        self._found: tuple[Pools | None, Entry | None] | None = None  #: the last head, and for which rooms

    def __len__(self) -> int:
        return len(self._arrivals)

    def push(self, entry: Entry) -> None:
        self._found = None
        name = entry.tenant
        tenant = self._tenants.get(name)
        if tenant is None:
            tenant = self._tenants[name] = _Tenant(order=entry.seq, tag=self.virtual_time)
            self.dirty.add(name)
        if not tenant.count and tenant.tag < self.virtual_time:
            tenant.tag = self.virtual_time
            self.dirty.add(name)
        tenant.count += 1
        tenant.queued_s += entry.predicted_s
        section = self._sections.get(entry.pools)
        if section is None:
            section = self._sections[entry.pools] = _Section(entry.pools)
        self._into(section, tenant, entry)
        self._arrivals[entry.id] = entry
        self.queued_s += entry.predicted_s
        if entry.service_class is ServiceClass.BATCH:
            self.batch_s += entry.predicted_s

    def remove(self, entry: Entry) -> None:
        """Take it out without charging its tenant: cancelled, expired, parked."""
        self._found = None
        name = entry.tenant
        tenant, section = self._tenants[name], self._sections[entry.pools]
        line = section.lines[name]
        line.discard(entry)
        if not line.waiting:
            del section.lines[name]
            section.turn_cache = None
            tenant.sections.remove(section)
        if not entry.alone:
            alike = section.by_shape[entry.shape]
            del alike[entry.id]
            if not alike:
                del section.by_shape[entry.shape]
        del self._arrivals[entry.id]
        tenant.count -= 1
        tenant.queued_s = tenant.queued_s - entry.predicted_s if tenant.count else 0.0
        self.queued_s = self.queued_s - entry.predicted_s if self._arrivals else 0.0
        if entry.service_class is ServiceClass.BATCH:
            self.batch_s = self.batch_s - entry.predicted_s if self._arrivals else 0.0

    def head(self, rooms: Pools | None = None) -> Entry | None:
        """Whose turn it is among those that may go to one of ``rooms``; None when there is none."""
        if self._found is None or self._found[0] is not rooms:
            self._found = rooms, self._find_head(rooms)
        return self._found[1]

    def heads(self, rooms: Pools, limit: int) -> list[tuple[float, Entry]]:
        """The next tenants' heads with their tags, lowest first."""
        turns = []
        for section in self._sections.values():
            if not rooms.isdisjoint(section.pools):
                valid = {item: section for item in section.active if section.is_valid(item)}
                turns += [(item, section) for item in heapq.nsmallest(limit, valid)]
        turns.sort(key=lambda turn: turn[0])
        return [(item[0], section.lines[item[2]].head()) for item, section in turns[:limit]]

    def serve(self, entry: Entry, *, in_turn: bool) -> None:
        """Take it out as dispatched and charge its tenant; virtual time only moves with those whose turn it was."""
        if in_turn:
            self.virtual_time = max(self.virtual_time, self._tenants[entry.tenant].tag)
        else:
            head = self._sections[entry.pools].lines[entry.tenant].head()
            head.passed_over += head is not entry
        self.remove(entry)
        self.charge(entry.tenant, entry.predicted_s / entry.weight)

    def charge(self, name: str, seconds: float) -> None:
        """Add to what the tenant was served, over its weight; negative where a completion cost less than predicted."""
        tenant = self._tenants.get(name)
        if tenant is None:
            return
        self._found = None
        tenant.tag += seconds
        self.dirty.add(name)
        if name not in self._paused:
            for section in tenant.sections:
                section.activate(name, tenant)

    def pause(self, name: str) -> None:
        """Its requests wait until :meth:`resume`; to be called when the tenant was put into the set of paused ones."""
        self._found = None
        tenant = self._tenants.get(name)
        for section in tenant.sections if tenant else ():
            section.lines[name].heap_tag = None
            section.turn_cache = None

    def resume(self, name: str) -> None:
        self._found = None
        tenant = self._tenants.get(name)
        if tenant is not None:
            for section in tenant.sections:
                section.activate(name, tenant)

    def alike(
        self, shape: Shape, pool: str | None = None, most_s: float = inf, ahead_s: float = inf, fits: Fits | None = None
    ) -> Entry | None:
        """The longest waiting request of a shape that may share a micro-batch on ``pool``, takes at most ``most_s`` and ``fits``.

        None of a tenant whose tag is more than ``ahead_s`` beyond virtual time: what is popular would go out of turn again and again, and
        the rest of that tenant's requests, for which its tag is too high then, would never have theirs.
        """
        best: Entry | None = None
        for section in self._sections.values():
            alike = section.by_shape.get(shape)
            if alike is None or (pool is not None and pool not in section.pools):
                continue
            near = islice(alike.values(), ALIKE_LOOKAHEAD) if fits is None else filter(fits, islice(alike.values(), ALIKE_LOOKAHEAD))
            found = next((one for one in near if self._may_fill(section, one, most_s, ahead_s)), None)
            if found is not None and (best is None or found.seq < best.seq):
                best = found
        return best

    def ahead_of(self, name: str) -> tuple[int, float]:
        """Requests and device seconds expected to go before one that a tenant adds now: its own, and as much of each other's."""
        tenant = self._tenants.get(name)
        count, queued_s = (tenant.count, tenant.queued_s) if tenant else (0, 0.0)
        active = sum(len(section.lines) for section in self._sections.values())
        return min(len(self._arrivals), (count + 1) * active), min(self.queued_s, queued_s * active + self._mean_s() * active)

    def oldest(self) -> Entry | None:
        return next(iter(self._arrivals.values()), None)

    def entries(self) -> list[Entry]:
        """All of them, in order of arrival in this lane."""
        return list(self._arrivals.values())

    def forget_idle(self) -> None:
        """Drop tenants whose past service can no longer matter."""
        idle = [name for name, tenant in self._tenants.items() if not tenant.count and tenant.tag <= self.virtual_time]
        for name in idle:
            del self._tenants[name]
        self.dirty.update(idle)
        for pools in [pools for pools, section in self._sections.items() if not section.lines]:
            del self._sections[pools]

    def tag(self, name: str) -> tuple[float, int] | None:
        """A tenant's tag and order, None where it is forgotten."""
        tenant = self._tenants.get(name)
        return None if tenant is None else (tenant.tag, tenant.order)

    def restore_tag(self, name: str, tag: float, order: int) -> None:
        """To be called before anything is pushed."""
        self._tenants[name] = _Tenant(order=order, tag=tag)

    def _find_head(self, rooms: Pools | None) -> Entry | None:
        best: tuple[float, int, str] | None = None
        found = None
        for section in self._sections.values():
            if rooms is not None and rooms.isdisjoint(section.pools):
                continue
            turn = section.turn()
            if turn is not None and (best is None or turn < best):
                best, found = turn, section
        return None if best is None or found is None else found.lines[best[2]].head()

    def _into(self, section: _Section, tenant: _Tenant, entry: Entry) -> None:
        line = section.lines.get(entry.tenant)
        if line is None:
            line = section.lines[entry.tenant] = _Line()
            tenant.sections.append(section)
            line.push(entry)
            if entry.tenant not in self._paused:
                section.activate(entry.tenant, tenant)
        else:
            line.push(entry)
        if not entry.alone:
            section.by_shape.setdefault(entry.shape, OrderedDict())[entry.id] = entry

    def _may_fill(self, section: _Section, entry: Entry, most_s: float, ahead_s: float) -> bool:
        name = entry.tenant
        if entry.predicted_s > most_s or name in self._paused or self._tenants[name].tag - self.virtual_time > ahead_s:
            return False
        head = section.lines[name].head()
        return head is entry or head.passed_over < PASSES

    def _mean_s(self) -> float:
        return self.queued_s / len(self._arrivals) if self._arrivals else 0.0
