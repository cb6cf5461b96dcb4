"""The idempotency window: which request ids were accepted lately, and whose they are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container

from include.scheduling.store import StateStore, Table


class IdWindow:
    """Ids by age of acceptance, bounded in time and count; an id whose request is still open is never forgotten."""

    def __init__(self, store: StateStore, *, window_s: float, max_ids: int) -> None:
        self._store = store
        self._window_s = window_s
        self._max_ids = max_ids
        self._ids: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ids)

    def owner(self, request_id: str) -> str | None:
        found = self._ids.get(request_id)
        return found[0] if found else None

    def claim(self, request_id: str, tenant: str, now: float) -> None:
        self._ids[request_id] = (tenant, now)
        self._store.put(Table.IDS, request_id, f"{tenant}\t{now!r}")

    def release(self, request_id: str) -> None:
        """Forget an id whose request was refused after all, so that it may be sent again."""
        if self._ids.pop(request_id, None) is not None:
            self._store.remove(Table.IDS, request_id)

    def clean(self, now: float, still_open: Container[str], at_most: int = 1000) -> None:
        """Forget up to ``at_most`` ids that are too old or too many; called at every tick, it keeps up with 1000 a tick."""
        for _ in range(min(at_most, len(self._ids))):
            request_id, (_, at) = next(iter(self._ids.items()))
            if now - at <= self._window_s and len(self._ids) <= self._max_ids:
                return
            if request_id in still_open:
                self._ids.move_to_end(request_id)
            else:
                self.release(request_id)

    def restore(self) -> None:
        rows = [(request_id, *value.split("\t")) for request_id, value in self._store.items(Table.IDS)]
        rows.sort(key=lambda row: (float(row[2]), row[0]))
        self._ids = OrderedDict((request_id, (tenant, float(at))) for request_id, tenant, at in rows)
