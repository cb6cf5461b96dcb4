"""A champion is taken back again and again in a real MLflow while requests flow, and the watcher's ledger is held against what was moved.

The installation of ``tests.benchmarks.hot_swap``: Kafka, MLflow, the router on its cluster, the registry watcher, one worker. Each round
promotes the second version, lets it serve, and rolls back to the first, in turn as ``atelier rollback`` does and as the MLflow UI does.

- ``switch_s``: from the start of the rollback to the first image of the old version, of a request sent after it; the longest of the
  rounds. ``switch_median_s``; ``told_median_s``: until the watcher had told the router; ``rendered_median_s``: from then to the image.
- ``failed``: requests that did not end in Completed, of ``requests``.
- ``ledger_missing``: of ``moves`` alias moves made around kills of the watcher with SIGKILL, those that the ledger lacks; ``ledger_extra``:
  moves in the ledger that nobody made. While the watcher is down, Atelier's own tools move the alias several times and the MLflow UI once.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from include.config import Settings
from include.contracts import topics
from include.contracts.control import ModelRoute, control_messages
from include.lifecycle import promotion
from include.registry.aliases import CHAMPION, set_alias
from include.registry.client import RegistryClient
from include.registry.ledger import UNKNOWN, AliasLedger
from tests.benchmarks.hot_swap import MODEL, SETTLE_S, Flow, Installation, installation, program, say
from tests.support.kafka_client import TopicReader
from tests.support.waiting import wait_for

WATCHER = "registry-watcher"
SEEN_TIMEOUT_S = 60.0

#: Version moved from, version moved to, who.
Move = tuple[str | None, str | None, str]


def move_as_the_ui_does(settings: Settings, version: str) -> None:
    with RegistryClient(settings.mlflow) as client:
        client.set_alias(MODEL, CHAMPION, version)


def roll_back(settings: Settings, version: str, number: int) -> None:
    if number % 2:
        move_as_the_ui_does(settings, version)
    else:
        promotion.rollback(settings, MODEL, version, by="bench", why="benchmark")


@dataclass
class Switches:
    """Seconds of each rollback."""

    whole: list[float] = field(default_factory=list)
    told: list[float] = field(default_factory=list)


def measure_switches(installed: Installation, rounds: int) -> tuple[Switches, Flow]:
    settings, (first, second) = installed.settings, installed.versions
    flow, control, found = Flow(settings, 2), TopicReader(settings, topics.CONTROL), Switches()
    flow.first_of(first, 0.0)
    for number in range(rounds):
        set_alias(MODEL, CHAMPION, second, by="bench", uri=settings.mlflow)
        flow.first_of(second, time.time())
        flow.run(SETTLE_S)
        moved_at = time.time()
        roll_back(settings, first, number)
        found.whole.append(flow.first_of(first, moved_at) - moved_at)
        found.told.append(told_at(control, first, moved_at) - moved_at)
        say(f"rollback {number + 1}: first image after {found.whole[-1]:.2f} s, the router was told after {found.told[-1]:.2f} s")
        flow.run(SETTLE_S)
    flow.finish()
    control.close()
    return found, flow


def told_at(control: TopicReader, version: str, since: float) -> float:
    """When the route to the version was written, after ``since``; the watcher's look began then."""
    routes = [control_messages.validate_json(value) for value in control.poll(1.0) if value]
    serving = [route for route in routes if isinstance(route, ModelRoute) and route.champion and route.champion.version == version]
    return min(route.at for route in serving if route.at >= since)


@dataclass
class Mover:
    """Moves the alias to and fro and remembers each move."""

    settings: Settings
    versions: tuple[str, str]
    at: str | None
    moves: list[Move] = field(default_factory=list)

    def move(self, *, signed: bool) -> None:
        target = self.versions[0] if self.at == self.versions[1] else self.versions[1]
        by = f"mover-{len(self.moves)}" if signed else UNKNOWN
        if signed:
            set_alias(MODEL, CHAMPION, target, by=by, why="benchmark", uri=self.settings.mlflow)
        else:
            move_as_the_ui_does(self.settings, target)
        self.moves.append((self.at, target, by))
        self.at = target


def measure_ledger(installed: Installation, moves: int) -> dict[str, Any]:
    """Each round: a move while the watcher runs, SIGKILL right after it, signed moves and an unsigned one while it is down."""
    settings = installed.settings
    ledger = AliasLedger(settings.home / "ledger" / "aliases.jsonl")
    mover = Mover(settings, installed.versions, installed.versions[0])
    wait_for(lambda: at_of(ledger) == mover.at, SEEN_TIMEOUT_S, "the ledger to follow")
    before, running = len(list(ledger.moves())), installed.processes[WATCHER]

    def differences() -> tuple[int, int]:
        seen = [move for move in list(ledger.moves())[before:] if move.alias == CHAMPION]
        found, made = Counter((move.from_version, move.to_version, move.by) for move in seen), Counter(mover.moves)
        return (made - found).total(), (found - made).total()

    with ExitStack() as stack:
        while len(mover.moves) < moves:
            mover.move(signed=True)
            running.kill()
            running.wait()
            for _ in range(min(3, moves - len(mover.moves))):
                mover.move(signed=True)
            if len(mover.moves) < moves:
                mover.move(signed=False)
            running = stack.enter_context(program(settings, WATCHER))
            with suppress(AssertionError):  # then it is counted as missing
                wait_for(lambda: differences()[0] == 0, SEEN_TIMEOUT_S, "the ledger to be complete")
            say(f"{len(mover.moves)} moves around kills of the watcher, missing {differences()[0]}")
    missing, extra = differences()
    return {"ledger_missing": missing, "ledger_extra": extra, "moves": len(mover.moves)}


def at_of(ledger: AliasLedger) -> str | None:
    """Where the ledger says that the alias is."""
    last = ledger.current().get((MODEL, CHAMPION))
    return None if last is None else last.to_version


def figures(switches: Switches, flow: Flow) -> dict[str, Any]:
    rendered = [whole - told for whole, told in zip(switches.whole, switches.told, strict=True)]
    return {
        "switch_s": round(max(switches.whole), 2),
        "switch_median_s": round(statistics.median(switches.whole), 2),
        "told_median_s": round(statistics.median(switches.told), 2),
        "rendered_median_s": round(statistics.median(rendered), 2),
        "rollbacks": len(switches.whole),
        "failed": sum(not shot.version for shot in flow.shots.values()),
        "requests": len(flow.shots),
        "load_average": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollbacks", type=int, default=6)
    parser.add_argument("--moves", type=int, default=20, help="around kills of the watcher")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory, installation(Path(directory)) as installed:
        result = figures(*measure_switches(installed, max(1, arguments.rollbacks)))
        result |= measure_ledger(installed, arguments.moves)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
