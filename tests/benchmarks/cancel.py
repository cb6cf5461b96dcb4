"""What the device still does for a request after it was cancelled.

The shipped base model at 64 px, 50 steps with guidance, one CPU thread. Each lease is revoked at a random instant, through a real broker.

- ``steps_after_cancel``: denoising steps that began after the broker had acknowledged the revocation, the most of all rounds. The step that
  runs at that instant is finished.
- ``device_steps_after_cancel``: device time after that instant in steps, the rest of the running one counted, the most and the median.
- ``freed_s``: from that instant to the heartbeat that says the slot is free, median.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch

from include.contracts.dispatch import ModelRef, Revoke
from include.contracts.workers import Credit
from models.training.base_model import load_base
from tests.support.worker_bench import Hand, Recorder, broker, install_base, task, worker

STEPS, LATEST = 50, 40  #: of a render, and by which it is cancelled


def cancel_one(hand: Hand, model: ModelRef, recorder: Recorder, rng: random.Random) -> tuple[int, float, float]:
    """Steps begun afterwards, device time afterwards in steps, seconds until the slot was free."""
    first, at, reached = len(recorder.steps), rng.randrange(LATEST), threading.Event()
    recorder.on_step = lambda done: reached.set() if done - first >= at else None
    lease = hand.lease(task(steps=STEPS), model=model)
    hand.send(lease)
    assert reached.wait(600)
    time.sleep(rng.random() * 0.05)  # anywhere within a step, not always at its beginning
    asked = time.time()
    cancelled = hand.send(Revoke(lease_id=lease.lease_id, worker_id=lease.worker_id, pool=lease.pool))
    hand.wait(lambda message: isinstance(message, Credit) and not message.held and message.at > asked)
    freed = time.monotonic() - cancelled
    steps = recorder.steps[first:]
    whole = statistics.median(ended - began for _, began, ended in steps)
    after = sum(began > cancelled for _, began, _ in steps)
    device_s = sum(max(0.0, ended - max(began, cancelled)) for _, began, ended in steps)
    return after, device_s / whole, freed


def measure(rounds: int, seed: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    rng = random.Random(seed)
    recorder = Recorder(load_base())  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder, broker(Path(folder)) as settings:
        model, hand = install_base(settings), Hand(settings)
        with worker(settings, recorder):
            hand.wait_hello()
            hand.send(hand.lease(warm := task(steps=2), model=model))
            hand.wait_completed(warm.request_id)
            found = []
            for number in range(rounds):
                found.append(cancel_one(hand, model, recorder, rng))
                print(f"{number}: {found[-1][0]} steps began, {found[-1][1]:.2f} steps of device time", file=sys.stderr)
        hand.close()
    after, device, freed = zip(*found, strict=True)
    return {
        "steps_after_cancel": max(after),
        "device_steps_after_cancel": {"most": round(max(device), 2), "median": round(statistics.median(device), 2)},
        "freed_s": round(statistics.median(freed), 4),
        "rounds": rounds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.rounds, arguments.seed)))


if __name__ == "__main__":
    main()
