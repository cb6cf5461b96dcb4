"""What became of each request of a run, in columns."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from include.contracts.events import Lane, State
from include.contracts.requests import Tier

LANES = tuple(Lane)
STATES = tuple(State)
NEVER = float("nan")


@dataclass(slots=True, eq=False)
class Record:
    """One request that is not over yet. Times in seconds since 1970, NaN for what has not happened."""

    lane: Lane
    tier: Tier
    tenant: str
    arrived: float
    admitted: float = NEVER
    bound_s: float = NEVER
    likely_low_s: float = NEVER
    likely_high_s: float = NEVER
    dispatched: float = NEVER
    started: float = NEVER
    rendered: float = NEVER
    gpu_s: float = 0.0  #: its share of its micro-batch
    degraded: bool = False


Floats = NDArray[np.float64]

_NUMBERS = ("arrived", "admitted", "bound_s", "likely_low_s", "likely_high_s", "dispatched", "started", "rendered", "gpu_s", "ended")


@dataclass(kw_only=True)
class Columns:
    """A finished run, one row a request. ``state`` is −1 where the run ended before the request did."""

    numbers: dict[str, Floats]
    lane: NDArray[np.int8]  #: index into LANES
    state: NDArray[np.int8]  #: index into STATES
    tenant: NDArray[np.int32]  #: index into ``tenants``
    degraded: NDArray[np.int8]
    tenants: tuple[tuple[str, Tier, Lane], ...]
    shares: tuple[tuple[float, dict[Lane, float]], ...]  #: guaranteed shares of device time by when they came to hold
    end: float

    def __getitem__(self, name: str) -> Floats:
        return self.numbers[name]

    def __len__(self) -> int:
        return len(self.lane)

    def in_lane(self, lane: Lane) -> NDArray[np.bool_]:
        return np.asarray(self.lane == LANES.index(lane))

    def in_state(self, state: State) -> NDArray[np.bool_]:
        return np.asarray(self.state == STATES.index(state))


@dataclass
class Ledger:
    """Books each request from its arrival to its one end. Rows of what is over are plain numbers, so that a million fit."""

    open: dict[str, Record] = field(default_factory=dict)
    shares: list[tuple[float, dict[Lane, float]]] = field(default_factory=list)
    _tenants: dict[tuple[str, Tier, Lane], int] = field(default_factory=dict)
    _numbers: dict[str, array[float]] = field(default_factory=lambda: {name: array("d") for name in _NUMBERS})
    _codes: dict[str, array[int]] = field(default_factory=lambda: {name: array("i") for name in ("lane", "state", "tenant", "degraded")})

    def arrive(self, request_id: str, record: Record) -> None:
        if request_id in self.open:
            raise ValueError(f"request {request_id} arrived twice while it was open; ids of a recording must be unique")
        self.open[request_id] = record

    def end(self, request_id: str, state: State, now: float) -> None:
        """Raises :class:`KeyError` for a request that is not open: a policy has ended it twice."""
        self._write(self.open.pop(request_id), STATES.index(state), now)

    def close(self, now: float) -> Columns:
        """The run is over; what is still open gets rows without a state."""
        for record in self.open.values():
            self._write(record, -1, NEVER)
        codes = {name: np.frombuffer(values, dtype=np.int32) for name, values in self._codes.items()}
        return Columns(
            numbers={name: np.frombuffer(values, dtype=np.float64) for name, values in self._numbers.items()},
            lane=codes["lane"].astype(np.int8),
            state=codes["state"].astype(np.int8),
            tenant=codes["tenant"],
            degraded=codes["degraded"].astype(np.int8),
            tenants=tuple(self._tenants),
            shares=tuple(self.shares),
            end=now,
        )

    def _write(self, record: Record, state: int, ended: float) -> None:
        for name in _NUMBERS[:-1]:
            self._numbers[name].append(getattr(record, name))
        self._numbers["ended"].append(ended)
        tenant = (record.tenant, record.tier, record.lane)
        self._codes["lane"].append(LANES.index(record.lane))
        self._codes["state"].append(state)
        self._codes["tenant"].append(self._tenants.setdefault(tenant, len(self._tenants)))
        self._codes["degraded"].append(record.degraded)
