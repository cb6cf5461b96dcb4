"""States as releases wrote them, kept as files: what a savepoint of that release holds of the scheduler.

``python -m tests.unit.include.scheduling.stored_states FORMAT`` writes the present code's; run it before a release that changes the format.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from include.contracts.control import Scenario
from include.contracts.requests import ServiceClass, Tier
from include.scheduling.store import MemoryStore, Table
from tests.unit.include.scheduling.harness import Desk

FOLDER = Path(__file__).parent / "states"


def load(path: Path) -> MemoryStore:
    """Tables that the release did not have are empty."""
    store = MemoryStore()
    for table, rows in json.loads(path.read_text(encoding="utf-8")).items():
        for key, value in rows.items():
            store.put(Table(table), key, value)
    return store


def make() -> MemoryStore:
    """Requests in every phase, one over, one cancelled before it comes, a scenario; worker w-0 holds two leases."""
    desk = Desk()
    desk.control(Scenario(at=desk.now, name="badge", model="emoji", steps=6))
    desk.hello("w-0", slots=2)
    desk.submit("running", tenant="a")
    desk.submit("failed-once", tenant="b")
    desk.fail(desk.leased("failed-once"))
    desk.submit("waits-high", tenant="a", tier=Tier.PRO)
    desk.submit("waits-too", tenant="a", tier=Tier.PRO)
    desk.submit("waits-low", ServiceClass.BATCH, tenant="c", deadline_at=desk.now + 500, prompt='Bär 🐻\t"x"')
    desk.submit("scenic", ServiceClass.BATCH, tenant="c", scenario="badge")
    desk.submit("over", tenant="c")
    desk.cancel("over", "c")
    desk.cancel("comes-later", "c")
    desk.tick()
    return desk.store


def main() -> None:
    store = make()
    tables = {table.value: dict(store.items(table)) for table in Table}
    path = FOLDER / f"format_{sys.argv[1]}.json"
    path.write_text(json.dumps(tables, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
