"""Workers that are names only: for the simulator, tests, and whoever tries rules out."""

from __future__ import annotations

from collections.abc import Sequence

from include.autoscale.drivers.base import PoolDriver, PoolState, checked, who_leaves


class MemoryDriver(PoolDriver):
    """Whoever owns it moves the workers on: :meth:`started` and :meth:`gone`."""

    def __init__(self, pool: str, count: int = 0) -> None:
        self._pool = pool
        self._numbered = count
        self._running = {self._name(number) for number in range(count)}
        self._starting: set[str] = set()
        self._draining: set[str] = set()

    def observe(self) -> PoolState:
        return PoolState(running=tuple(self._running), starting=tuple(self._starting), draining=tuple(self._draining))

    def scale_to(self, count: int, leaving: Sequence[str] = ()) -> None:
        surplus = len(self._running) + len(self._starting) - checked(count)
        state = self.observe()
        for name in who_leaves(state.running, state.starting, surplus, leaving):
            if name in self._running:
                self._draining.add(name)
            self._running.discard(name)
            self._starting.discard(name)
        for _ in range(-surplus):
            self._starting.add(self._name(self._numbered))
            self._numbered += 1

    def started(self, worker_id: str) -> None:
        """A worker takes work from now on. Raises :class:`KeyError` where it is not starting any more."""
        self._starting.remove(worker_id)
        self._running.add(worker_id)

    def gone(self, worker_id: str) -> None:
        """A worker has ended, drained or not. Raises :class:`KeyError` for an unknown one."""
        holder = next((group for group in (self._running, self._starting, self._draining) if worker_id in group), None)
        if holder is None:
            raise KeyError(worker_id)
        holder.remove(worker_id)

    def _name(self, number: int) -> str:
        return f"{self._pool}-{number:04d}"
