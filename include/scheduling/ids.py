"""The idempotency window: which request ids were accepted lately, and whose they are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Iterable

from include.scheduling.store import StateStore, Table

#: Ids in one row of the store. After each checkpoint Flink copies the table that is changed first, row by row, in the scheduler's thread,
#: and each checkpoint writes it whole: few long rows cost a fraction of what a row an id does.
CHUNK = 32
#: Begins the key of such a row, and no request id. States written before have a row for each id.
MARK = "#"


class IdWindow:
    """Ids by age of acceptance, bounded in time and count; an id whose request is still open is never forgotten.

    A row of the store holds up to :data:`CHUNK` ids and goes with the last of them, so that a restored window may know a few ids longer
    than the one before did.
    """

    def __init__(self, store: StateStore, *, window_s: float, max_ids: int) -> None:
        self._store = store
        self._window_s = window_s
        self._max_ids = max_ids
        self._ids: OrderedDict[str, tuple[str, float, int]] = OrderedDict()  #: tenant, acceptance, number of its row
        self._chunks: dict[int, list[str]] = {}
        self._last = 0
        self._text = ""  #: of the last row
        self._lines = 0

    def __len__(self) -> int:
        return len(self._ids)

    def owner(self, request_id: str) -> str | None:
        found = self._ids.get(request_id)
        return found[0] if found else None

    def claim(self, request_id: str, tenant: str, now: float) -> None:
        if self._lines == CHUNK:
            self._last, self._text, self._lines = self._last + 1, "", 0
        self._ids[request_id] = (tenant, now, self._last)
        self._chunks.setdefault(self._last, []).append(request_id)
        self._text += f"{request_id}\t{tenant}\t{now!r}\n"
        self._lines += 1
        self._store.put(Table.IDS, f"{MARK}{self._last}", self._text)

    def release(self, request_id: str) -> None:
        """Forget an id whose request was refused after all, so that it may be sent again."""
        number = self._forget(request_id)
        if number is None or number not in self._chunks:
            return
        text = "".join(self._line(each) for each in self._chunks[number])
        self._store.put(Table.IDS, f"{MARK}{number}", text)
        if number == self._last:
            self._text = text

    def clean(self, now: float, still_open: Container[str], at_most: int = 1000) -> None:
        """Forget up to ``at_most`` ids that are too old or too many; called at every tick, it keeps up with 1000 a tick."""
        for _ in range(min(at_most, len(self._ids))):
            request_id, (_, at, _) = next(iter(self._ids.items()))
            if now - at <= self._window_s and len(self._ids) <= self._max_ids:
                return
            if request_id in still_open:
                self._ids.move_to_end(request_id)
            else:
                self._forget(request_id)

    def restore(self) -> None:
        rows = list(self._store.items(Table.IDS))
        chunks = sorted((int(key[len(MARK) :]), text) for key, text in rows if key.startswith(MARK))
        for number, text in chunks:
            self._load(number, text)
        if chunks:
            self._last, self._text = chunks[-1]
            self._lines = self._text.count("\n")
        self._take_over((key, value) for key, value in rows if not key.startswith(MARK))
        self._ids = OrderedDict(sorted(self._ids.items(), key=lambda item: (item[1][1], item[0])))

    def _load(self, number: int, text: str) -> None:
        for line in text.splitlines():
            request_id, tenant, at = line.split("\t")
            self._forget(request_id)  # it was forgotten, and accepted once more
            self._ids[request_id] = (tenant, float(at), number)
            self._chunks.setdefault(number, []).append(request_id)

    def _take_over(self, rows: Iterable[tuple[str, str]]) -> None:
        """From rows of one id each."""
        for request_id, value in rows:
            tenant, at = value.split("\t")
            self._store.remove(Table.IDS, request_id)
            self.claim(request_id, tenant, float(at))

    def _forget(self, request_id: str) -> int | None:
        """The number of the row it was in, which goes when it was the last one there."""
        found = self._ids.pop(request_id, None)
        if found is None:
            return None
        number = found[2]
        members = self._chunks[number]
        members.remove(request_id)
        if not members:
            del self._chunks[number]
            self._store.remove(Table.IDS, f"{MARK}{number}")
            if number == self._last:
                self._last, self._text, self._lines = number + 1, "", 0
        return number

    def _line(self, request_id: str) -> str:
        tenant, at, _ = self._ids[request_id]
        return f"{request_id}\t{tenant}\t{at!r}\n"
