"""Workers of the local profile: processes under its supervisord."""

from __future__ import annotations

import xmlrpc.client
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from include.autoscale.drivers.base import DriverError, PoolDriver, PoolState, checked, who_leaves
from include.config import Settings
from include.platform.service import Service
from include.platform.services import local_services, worker_services
from include.platform.supervisor import UP, ProcessInfo, Supervisor

#: What supervisord calls a process that was told to stop and has not ended.
STOPPING = "STOPPING"


class LocalDriver(PoolDriver):
    """The workers of the pool ``worker_pool``, from ``worker-0`` on.

    supervisord only starts what it knows, so before the first start beyond ``worker_count`` it is told of as many workers as there may
    ever be. They differ from those of ``atelier up`` in nothing but that they are not started by it.

    :param most: workers there may ever be
    """

    def __init__(self, settings: Settings, most: int) -> None:
        self._settings = settings
        self._supervisor = Supervisor(settings)
        self._most = most

    def observe(self) -> PoolState:
        return _state(self._info())

    def scale_to(self, count: int, leaving: Sequence[str] = ()) -> None:
        if checked(count) > self._most:
            raise DriverError(f"{count} workers are asked for, and this driver was made for {self._most}; raise max_workers")
        with _supervisord():
            self._know_enough(count)
            info = self._info()
            state = _state(info)
            surplus = len(state.running) + len(state.starting) - count
            for name in who_leaves(state.running, state.starting, surplus, leaving):
                self._supervisor.stop_program(name, wait=False)
            # One that still drains comes back as itself only once it is gone, so others start meanwhile.
            stopped = [name for name in sorted(info, key=_number) if info[name].state not in (*UP, STOPPING)]
            for name in stopped[: max(0, -surplus)]:
                self._supervisor.start_program(name)

    def _know_enough(self, count: int) -> None:
        """Let supervisord know all workers there may be, as soon as it does not know as many as are wanted and as still drain."""
        known = self._info()
        draining = sum(1 for info in known.values() if info.state == STOPPING)
        if count + draining > len(known) and len(known) < self._most:
            self._supervisor.start(self._services())

    def _services(self) -> list[Service]:
        """The profile's own, with more workers. The settings stay: a service whose environment changed would be started anew."""
        more = worker_services(self._settings.model_copy(update={"worker_count": self._most}))
        known = {service.name for service in more}
        return [*(service for service in local_services(self._settings) if service.name not in known), *more]

    def _info(self) -> dict[str, ProcessInfo]:
        names = {f"worker-{number}" for number in range(max(self._most, self._settings.worker_count))}
        with _supervisord():
            return {name: info for name, info in self._supervisor.info().items() if name in names}


def _state(info: dict[str, ProcessInfo]) -> PoolState:
    return PoolState(
        running=tuple(name for name, found in info.items() if found.state == "RUNNING"),
        starting=tuple(name for name, found in info.items() if found.state in ("STARTING", "BACKOFF")),
        draining=tuple(name for name, found in info.items() if found.state == STOPPING),
    )


def _number(name: str) -> int:
    return int(name.rpartition("-")[2])


@contextmanager
def _supervisord() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DriverError(f"no supervisor answers: {error}; `atelier up` starts it") from error
    except xmlrpc.client.Fault as error:
        raise DriverError(f"the supervisor refuses: {error.faultString}") from error
