"""What the device still does for a request after it was cancelled.

The shipped base model at 64 px, 50 steps with guidance, one CPU thread. Each lease is revoked at a random instant, through a real broker.

- ``steps_after_cancel``: device time after the broker had acknowledged the revocation, whatever it was spent on (the rest of the running
  step, further steps, encoding, previews, decoding), in steps: over the duration of the last step that had ended by then. The most of all
  rounds; ``median`` is their median.
- ``steps_begun``: denoising steps that began after that instant, the most of all rounds.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from include.contracts.dispatch import ModelRef, Revoke
from include.contracts.workers import Credit
from models.training.base_model import load_base
from tests.support.worker_bench import Hand, Recorder, Span, broker, install_base, task, worker

STEPS, EARLIEST, LATEST = 50, 2, 40  #: of a render, and between which it is cancelled


@dataclass(frozen=True, kw_only=True)
class Round:
    begun: int  #: steps, after the cancellation
    device_steps: float  #: device time after it, in steps
    freed_s: float  #: from then until the slot was free


def cancel_one(hand: Hand, model: ModelRef, recorder: Recorder, rng: random.Random) -> Round:
    first, others, at, reached = len(recorder.steps), len(recorder.others), rng.randrange(EARLIEST, LATEST), threading.Event()
    recorder.on_step = lambda done: reached.set() if done - first >= at else None
    lease = hand.lease(task(steps=STEPS), model=model)
    hand.send(lease)
    assert reached.wait(600)
    time.sleep(rng.random() * 0.05)  # anywhere within a step, not always at its beginning
    asked = time.time()
    cancelled = hand.send(Revoke(lease_id=lease.lease_id, worker_id=lease.worker_id, pool=lease.pool))
    hand.wait(lambda message: isinstance(message, Credit) and not message.held and message.at > asked)
    freed_s = time.monotonic() - cancelled
    steps = [Span(began, ended) for _, began, ended in recorder.steps[first:]]
    whole = [step for step in steps if step.ended <= cancelled][-1]
    spent_s = sum(span.after(cancelled) for span in (*steps, *recorder.others[others:]))
    begun = sum(step.began > cancelled for step in steps)
    return Round(begun=begun, device_steps=spent_s / (whole.ended - whole.began), freed_s=freed_s)


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
                print(f"{number}: {found[-1].begun} steps began, {found[-1].device_steps:.2f} steps of device time", file=sys.stderr)
        hand.close()
    return {
        "steps_after_cancel": round(max(one.device_steps for one in found), 3),
        "median": round(statistics.median(one.device_steps for one in found), 3),
        "steps_begun": max(one.begun for one in found),
        "freed_s": round(statistics.median(one.freed_s for one in found), 4),
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
