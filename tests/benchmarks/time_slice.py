"""A 4-step render that arrives behind a 50-step one: how long it waits, what that costs, and whether the long one's image is the same.

The shipped base model at 64 px with guidance, one CPU thread, leases through a real broker. Rounds with and without time slicing take
turns.

- ``steps_waited``: steps of the long render that began between the broker's acknowledgement of the short lease and the short one's first
  step, the most of all rounds.
- ``total_ratio``: wall time until both are stored, with time slicing over without, medians.
- ``identical``: in every round the long image is, byte for byte, the one of an undisturbed render.
- ``elsewhere_identical``: so it is where the worker ended in the middle and another one went on from the stored state.
- ``short_s``, ``short_behind_s``: when the short one was completed, with and without time slicing, medians.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from include.config import Settings
from include.contracts.dispatch import ModelRef, RenderTask
from include.contracts.workers import Completed, Goodbye
from include.storage import ObjectStore, open_store
from include.worker.slicing import Bounds
from models.training.base_model import load_base
from tests.support.worker_bench import Hand, Recorder, broker, install_base, task, worker

LONG, SHORT = 50, 4
AT = 10  #: steps of the long render before the short one is sent
SEED = 7


@dataclass(frozen=True, kw_only=True)
class Round:
    steps_waited: int
    total_s: float
    short_s: float  #: from the acknowledgement to the completion
    digest: str  #: of the long render's file


class Bench:
    def __init__(self, settings: Settings, model: ModelRef) -> None:
        self.settings = settings
        self.model = model
        self.store: ObjectStore = open_store(settings)
        self.recorder = Recorder(load_base())  # type: ignore[arg-type]

    def long(self) -> RenderTask:
        return task("a yellow cat face", steps=LONG, seed=SEED)

    def digest(self, done: Completed) -> str:
        return hashlib.sha256(self.store.get(done.images[0].key)).hexdigest()

    def at_step(self, number: int) -> threading.Event:
        """Set once so many steps of the next render have begun."""
        reached, first = threading.Event(), len(self.recorder.steps)

        def count(done: int) -> None:
            if done - first >= number:
                reached.set()

        self.recorder.on_step = count
        return reached

    def round(self, hand: Hand) -> Round:
        reached, long, short = self.at_step(AT), self.long(), task("red heart", steps=SHORT)
        first, began = len(self.recorder.steps), time.monotonic()
        hand.send(hand.lease(long, model=self.model))
        assert reached.wait(600)
        sent = hand.send(hand.lease(short, model=self.model))
        done, at = [], {}
        for _ in range(2):
            found = hand.wait_completed(*{long.request_id, short.request_id} - at.keys())
            done.append(found)
            at[found.request_id] = time.monotonic()
        steps = self.recorder.steps[first:]
        begun = next(began_at for kind, began_at, _ in steps if kind == SHORT)
        waited = sum(kind == LONG and sent < began_at < begun for kind, began_at, _ in steps)
        of_long = next(found for found in done if found.request_id == long.request_id)
        return Round(
            steps_waited=waited, total_s=max(at.values()) - began, short_s=at[short.request_id] - sent, digest=self.digest(of_long)
        )

    def undisturbed(self, hand: Hand) -> str:
        long = self.long()
        hand.send(hand.lease(long, model=self.model))
        return self.digest(hand.wait_completed(long.request_id))

    def elsewhere(self) -> str:
        """Begun by a worker that has to end at once, ended by another."""
        long, hand = self.long(), Hand(self.settings)
        with worker(self.settings, self.recorder, "worker-a", drain_s=0.0) as (_, stop):
            hand.wait_hello("worker-a")
            reached = self.at_step(AT)
            hand.send(hand.lease(long, model=self.model))
            assert reached.wait(600)
            stop.set()
            hand.wait(lambda message: isinstance(message, Goodbye))
        with worker(self.settings, self.recorder, "worker-b"):
            hand.wait_hello("worker-b")
            hand.send(hand.lease(long, model=self.model, attempt=2))
            done = hand.wait_completed(long.request_id)
        hand.close()
        assert done.usage.steps < LONG and done.usage.cache_hits == ("parked",), done.usage
        return self.digest(done)


def measure(rounds: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, broker(Path(folder)) as settings:
        bench = Bench(settings, install_base(settings))
        found: dict[bool, list[Round]] = {True: [], False: []}
        with worker(settings, bench.recorder) as (serving, _):
            hand = Hand(settings)
            hand.wait_hello()
            wanted = bench.undisturbed(hand)
            for number in range(2 * rounds):
                sliced = number % 2 == 0
                serving.loop.bounds = Bounds() if sliced else Bounds(max_parked=0)
                found[sliced].append(bench.round(hand))
                print(f"{'sliced' if sliced else 'in turn'}: {found[sliced][-1]}", file=sys.stderr)
            hand.close()
        elsewhere = bench.elsewhere()
    return summary(found[True], found[False], wanted, elsewhere)


def summary(sliced: list[Round], in_turn: list[Round], wanted: str, elsewhere: str) -> dict[str, Any]:
    def median(rounds: list[Round], name: str) -> float:
        return statistics.median(getattr(one, name) for one in rounds)

    return {
        "steps_waited": max(one.steps_waited for one in sliced),
        "total_ratio": round(median(sliced, "total_s") / median(in_turn, "total_s"), 4),
        "identical": all(one.digest == wanted for one in (*sliced, *in_turn)),
        "elsewhere_identical": elsewhere == wanted,
        "short_s": round(median(sliced, "short_s"), 3),
        "short_behind_s": round(median(in_turn, "short_s"), 3),
        "rounds": len(sliced),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="with time slicing, and as many without")
    print(json.dumps(measure(parser.parse_args().rounds)))


if __name__ == "__main__":
    main()
