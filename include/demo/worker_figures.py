"""The acts of the workers as figures and in words."""

from __future__ import annotations

from typing import Any

from include.contracts.events import State
from include.demo.worker_acts import Cancellation, Crash, Story, WorkerActs


def worker_figures(acts: WorkerActs) -> dict[str, Any]:
    return {"watched": _watched(acts), "cancelled": _cancelled(acts.cancellation), "killed": _killed(acts.crash)}


def _watched(acts: WorkerActs) -> dict[str, Any]:
    frames = [{"step": frame.step, "steps": frame.steps, "file": f"images/{frame.name}"} for frame in acts.frames]
    return {"request_id": acts.watched.id, "prompt": acts.watched.planned.prompt, "state": acts.watched.verdict.outcome, "previews": frames}


def _cancelled(cancellation: Cancellation) -> dict[str, Any]:
    render, event = cancellation.render, cancellation.event
    return {
        "request_id": cancellation.story.id,
        "state": event.state if event else None,
        "worker": next(iter(cancellation.story.workers), None),
        "steps": cancellation.story.planned.fields["steps"],
        "reported_step": render.step if render else None,
        "went_on_s": cancellation.went_on_s,
        "went_on_steps": cancellation.went_on_steps,
    }


def _killed(crash: Crash) -> dict[str, Any]:
    return {
        "worker": crash.worker_id,
        "pid": crash.pid,
        "back_s": crash.back_s,
        "requests": [_request(story, crash) for story in crash.stories],
        "retried": len(crash.moved),
        "lost": sum(not story.terminals for story in crash.stories),
        "terminal_events": sum(story.terminals for story in crash.stories),
    }


def _request(story: Story, crash: Crash) -> dict[str, Any]:
    event, retry = story.verdict.event, story.retry
    return {
        "request_id": story.id,
        "prompt": story.planned.prompt,
        "state": str(story.verdict.outcome),
        "was_on_it": story.id in crash.on_it,
        "workers": story.workers,
        "attempts": event.attempt if event else 0,
        "retried_s": max(0.0, retry.at - crash.at) if retry else None,
        "retry_reason": retry.reason.message if retry and retry.reason else "",
        "completed_s": max(0.0, event.at - crash.at) if event and event.state is State.COMPLETED else None,
        "terminal_events": story.terminals,
    }


def acts_in_words(acts: WorkerActs) -> str:
    steps, crash = acts.cancellation.went_on_steps, acts.crash
    stopped = f"cancelled, stopped {steps:.1f} steps later" if steps is not None else "cancelled"
    completed = sum(story.verdict.ok for story in crash.stories)
    killed = f"{crash.worker_id} killed with {len(crash.on_it)} on it, {completed} of {len(crash.stories)} completed"
    return f"{len(acts.frames)} previews; {stopped}; {killed}"
