"""The port through which the scheduler's state survives: small write-through tables of strings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from mypy_extensions import mypyc_attr

from include.contracts.base import Label


class Table(Label):
    REQUESTS = "requests"  #: accepted and not yet terminal, with their original text
    ATTEMPTS = "attempts"  #: dispatches and failures so far of requests that are back in their lane
    LEASES = "leases"  #: current leases
    IDS = "ids"  #: request ids of the idempotency window
    CONTROL = "control"  #: the last good control message of each key
    WORKERS = "workers"  #: the current incarnation of each worker
    CANCELS = "cancels"  #: cancellations that came before their request
    FAIRNESS = "fairness"  #: what each tenant was served, and each lane is owed
    LEARNED = "learned"  #: costs, batch sizes, estimates, shares: written now and then, since losing a little does no harm


@mypyc_attr(allow_interpreted_subclasses=True)  # Flink's adapter is one
class StateStore(ABC):
    """Where each change is written at once, so that a checkpoint of it is the whole state."""

    @abstractmethod
    def put(self, table: Table, key: str, value: str) -> None: ...

    @abstractmethod
    def remove(self, table: Table, key: str) -> None:
        """A key that isn't there is fine."""

    @abstractmethod
    def items(self, table: Table) -> Iterable[tuple[str, str]]:
        """Every key and value, in any order."""


class MemoryStore(StateStore):
    """A store that lasts as long as the process: for the simulator, benchmarks and tests."""

    def __init__(self) -> None:
        self._tables: dict[Table, dict[str, str]] = {table: {} for table in Table}

    def put(self, table: Table, key: str, value: str) -> None:
        self._tables[table][key] = value

    def remove(self, table: Table, key: str) -> None:
        self._tables[table].pop(key, None)

    def items(self, table: Table) -> Iterable[tuple[str, str]]:
        return list(self._tables[table].items())
