"""How fast the scheduler decides, without Kafka and Flink: a completion comes in, the next request is chosen and leased.

``decisions_per_s``: dispatches a second by number of requests queued, each with the completion that freed its worker, micro-batches of one,
every state change written to a memory store. ``submissions_per_s``: admissions into a queue of that length. Both by the process's CPU time,
since it is one thread and the machine may be shared. ``compiled``: whether it ran in its compiled form (``make native``).
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from itertools import cycle
from typing import Any

from include import scheduling
from include.contracts.defaults import default_policy
from include.contracts.dispatch import Lease
from include.contracts.requests import GenerationRequest, ServiceClass, Tier
from include.contracts.workers import Completed, Hello
from include.scheduling.scheduler import Scheduler
from include.scheduling.store import MemoryStore
from tests.unit.include.scheduling.harness import CELL, POOL, START, images_of, route

TENANTS, WORKERS = 50, 100
USAGE = {"gpu_seconds": 1.0, "render_s": 1.0, "steps": 4}


def requests(count: int, name: str) -> list[tuple[GenerationRequest, str, ServiceClass]]:
    """Of all tenants, tiers, classes, four shapes, some with deadlines."""
    made = []
    kinds = cycle((service_class, tier) for service_class in ServiceClass for tier in Tier)
    for number, (service_class, tier) in zip(range(count), kinds, strict=False):
        side = 32 * (1 + number // 6 % 4)
        message = GenerationRequest(
            request_id=f"{name}-{number}",
            tenant=f"tenant-{number // 24 % TENANTS}",
            tier=tier,
            prompt="a red heart",
            width=side,
            height=side,
            deadline_at=START + 1e6 + number % 97 if number % 5 == 0 else None,
        )
        made.append((message, message.to_json().decode(), service_class))
    return made


def scheduler_with(queued: int) -> tuple[Scheduler, float]:
    """A scheduler with a queue, and how many submissions a second filled the last tenth of it."""
    scheduler = Scheduler(cell=CELL, pools=frozenset({POOL}), store=MemoryStore())
    scheduler.on_control(default_policy().model_copy(update={"lane_bound_s": dict.fromkeys(default_policy().lane_bound_s, 1e9)}), "", START)
    scheduler.on_control(route(), route().to_json().decode(), START)
    waiting = requests(queued, "r")
    for message, raw, service_class in waiting[: -queued // 10]:
        scheduler.submit(message, raw, service_class, START)
    began = time.process_time()
    for message, raw, service_class in waiting[-queued // 10 :]:
        scheduler.submit(message, raw, service_class, START)
    return scheduler, queued // 10 / (time.process_time() - began)


def completion(lease: Lease) -> Completed:
    holder = {"worker_id": lease.worker_id, "incarnation": lease.incarnation, "cell": CELL, "pool": POOL, "at": START}
    task = lease.tasks[0]
    done = {"request_id": task.request_id, "model_version": "1", "images": images_of(task), "usage": USAGE}
    return Completed(**holder, lease_id=lease.lease_id, **done)


def decisions_per_s(queued: int, count: int) -> tuple[float, float]:
    scheduler, submissions = scheduler_with(queued)
    leases: list[Lease] = []
    for number in range(WORKERS):
        hello = Hello(worker_id=f"w-{number}", incarnation="i", cell=CELL, pool=POOL, at=START, slots=1)
        leases += [one for one in scheduler.on_worker(hello, "", START) if isinstance(one, Lease)]
    spent, made = 0.0, 0
    gc.collect()
    while made < count:
        messages = [completion(lease) for lease in leases]
        leases = []
        began = time.process_time()
        for message in messages:
            decided = scheduler.on_worker(message, "", START)
            leases += [one for one in decided if isinstance(one, Lease)]
        spent += time.process_time() - began
        made += len(leases)
    return made / spent, submissions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queued", type=int, default=100_000, help="requests that wait; a queue of 1000 is measured beside it")
    parser.add_argument("--repeats", type=int, default=3, help="the best of so many, since the machine may be shared")
    arguments = parser.parse_args()
    result: dict[str, Any] = {"decisions_per_s": {}, "submissions_per_s": {}, "compiled": scheduling.COMPILED}
    for queued in sorted({1000, arguments.queued}):
        count = min(queued - 2 * WORKERS, 5000)
        runs = [decisions_per_s(queued, count) for _ in range(arguments.repeats)]
        decisions, submissions = max(run[0] for run in runs), max(run[1] for run in runs)
        print(f"{queued} queued: {decisions:,.0f} decisions/s, {submissions:,.0f} submissions/s", file=sys.stderr)
        result["decisions_per_s"][str(queued)] = round(decisions)
        result["submissions_per_s"][str(queued)] = round(submissions)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
