"""Did the workers do what they must? One sentence for each thing that they did not."""

from __future__ import annotations

from include.contracts.events import State
from include.demo.worker_acts import Cancellation, Crash, Story, WorkerActs

#: A cancelled render must be off its worker after so many seconds or steps, whichever is longer. The worker itself takes one step; the rest
#: is the way of the message through a busy machine.
STOP_WITHIN_S, STOP_WITHIN_STEPS = 2.0, 2.0


def worker_faults(acts: WorkerActs) -> list[str]:
    return [*_watched_faults(acts), *_cancel_faults(acts.cancellation), *_crash_faults(acts.crash)]


def _watched_faults(acts: WorkerActs) -> list[str]:
    faults = _story_faults(acts.watched)
    if len(acts.frames) < 2:
        faults.append(f"{acts.watched.id}: {len(acts.frames)} previews were seen while it rendered, at least 2 must be")
    return faults


def _story_faults(story: Story) -> list[str]:
    """Of a request that must complete, once."""
    verdict = story.verdict
    faults = [] if verdict.ok else [f"{story.id}: {verdict.outcome} {verdict.detail}".rstrip()]
    if story.terminals > 1:
        faults.append(f"{story.id}: {story.terminals} terminal events where there must be one")
    return faults


def _cancel_faults(cancellation: Cancellation) -> list[str]:
    story, event = cancellation.story, cancellation.event
    if event is None or event.state is not State.CANCELLED:
        return [f"{story.id}: {event.state if event else 'lost'} although it was cancelled (HTTP {cancellation.answered})"]
    if story.terminals > 1:
        return [f"{story.id}: {story.terminals} terminal events where there must be one"]
    if cancellation.went_on_s is None:
        return [f"{story.id}: its worker never said that it let go of it"]
    steps = cancellation.went_on_steps
    if cancellation.went_on_s > STOP_WITHIN_S and (steps is None or steps > STOP_WITHIN_STEPS):
        return [f"{story.id}: its worker went on for {cancellation.went_on_s:.1f} s after it was cancelled"]
    return []


def _crash_faults(crash: Crash) -> list[str]:
    faults = [fault for story in crash.stories for fault in _story_faults(story)]
    if not crash.moved:
        faults.append(f"{crash.worker_id} was killed while it rendered {_names(crash)}, and none of these was tried again")
    faults += [f"{story.id}: tried again without a reason" for story in crash.moved if not _why(story)]
    if crash.back_s is None:
        faults.append(f"{crash.worker_id} did not come back after it was killed; see `atelier logs {crash.worker_id}`")
    return faults


def _why(story: Story) -> str:
    return story.retry.reason.message if story.retry is not None and story.retry.reason is not None else ""


def _names(crash: Crash) -> str:
    return ", ".join(sorted(crash.on_it)) or "nothing"
