"""A worker without a device: it holds a few micro-batches, runs one, and takes as long as the table says."""

from __future__ import annotations

from collections import deque

from include.simulation.policy import Assigned, WorkerSpec


class SimulatedWorker:
    """Runs one micro-batch and holds the rest in order, as a real worker does."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self.running: Assigned | None = None
        self.started_at = 0.0
        self.draining = False  #: on its way out
        self._waiting: deque[Assigned] = deque()

    @property
    def held(self) -> tuple[str, ...]:
        """Lease ids, running first."""
        running = () if self.running is None else (self.running.lease_id,)
        return (*running, *(lease.lease_id for lease in self._waiting))

    def take(self, lease: Assigned) -> None:
        """Raises :class:`ValueError` when it already holds as much as it said it may."""
        if len(self.held) >= self.spec.slots:
            raise ValueError(f"worker {self.spec.id} holds {len(self.held)} leases and was given {lease.lease_id} on top")
        if len(lease.tasks) > self.spec.max_batch:
            raise ValueError(f"worker {self.spec.id} takes {self.spec.max_batch} requests at once; {lease.lease_id} has {len(lease.tasks)}")
        self._waiting.append(lease)

    def start_next(self, now: float) -> Assigned | None:
        """What it begins to render now: None while it renders, or has nothing to."""
        if self.running is not None or not self._waiting:
            return None
        self.running, self.started_at = self._waiting.popleft(), now
        return self.running

    def finish(self) -> Assigned:
        assert self.running is not None
        done, self.running = self.running, None
        return done
