"""Events as sentences. What a trace holds that is not known here is shown as it is, so that nothing the scheduler says is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from include.contracts.errors import Reason
from include.contracts.events import Estimate, ImageResult, State, StatusEvent

#: The top of a band that says nothing.
UNKNOWN_S = 1e9


class Trace:
    """A decision trace whose keys are taken one by one; what nobody took is left over."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._left = dict(values)

    def take(self, key: str) -> Any:
        """None where it is missing."""
        return self._left.pop(key, None)

    def number(self, key: str) -> float | None:
        """What is no number stays in the rest."""
        return self._left.pop(key) if _is_number(self._left.get(key)) else None

    def pair(self, key: str) -> tuple[float, float] | None:
        """Two numbers; what is none stays in the rest."""
        value = self._left.get(key)
        if not isinstance(value, list | tuple) or len(value) != 2 or not all(map(_is_number, value)):
            return None
        del self._left[key]
        return value[0], value[1]

    def names(self, key: str) -> list[str]:
        """A list of texts; what is none stays in the rest."""
        value = self._left.get(key)
        if not isinstance(value, list | tuple) or not all(isinstance(part, str) for part in value):
            return []
        del self._left[key]
        return list(value)

    def rest(self) -> list[str]:
        return [f"{key}={_plain(value)}" for key, value in self._left.items() if value not in (None, [], {}, "")]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


@dataclass(kw_only=True)
class Story:
    """What earlier events of the request said that later ones are held against."""

    queued_at: float | None = None
    estimate: Estimate | None = None
    predicted_s: float | None = None
    degraded: tuple[str, ...] = ()


def told(event: StatusEvent, story: Story) -> tuple[str, list[str]]:
    """A title and a sentence for each thing the event says."""
    trace = Trace(event.trace)
    title, teller = _title(event), _TELLERS.get(event.state, _ended)
    lines = [line for line in teller(event, trace, story) if line]
    rest = trace.rest()
    return title, [*lines, *([", ".join(rest)] if rest else [])]


def seconds(value: float) -> str:
    """A duration at the precision that a person needs."""
    if value >= 120:
        minutes, rest = divmod(round(value), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
    return f"{value:.0f} s" if value >= 100 else f"{value:.1f} s" if value >= 10 else f"{value:.2f} s"


def _title(event: StatusEvent) -> str:
    if event.state is State.PROCESSING:
        return "Rendering" if event.progress is not None else "Dispatched"
    return str(event.state)


def _queued(event: StatusEvent, trace: Trace, story: Story) -> Iterator[str]:
    for key in ("service_class", "tier", "lane"):
        trace.take(key)  # the event has them as fields
    story.queued_at, story.estimate = event.at, event.estimate
    if not event.attempt:
        yield _class(event, trace)
        yield from _admission(trace)
    trace.take("outcome")  # of its admission, told once
    yield _prediction(trace, story)
    yield _place(event, trace)
    if event.estimate is not None:
        known = event.estimate.high_s < UNKNOWN_S
        yield f"expected to start in {_band(event.estimate)}" if known else "its wait can't be estimated: the lane has no measured rate yet"
    yield _degraded(event, story)


def _class(event: StatusEvent, trace: Trace) -> str:
    tier = f" of tier {event.tier}" if event.tier else ""
    kind = f"{event.service_class} request{tier}" if event.service_class else ""
    why = trace.take("why_lane")
    return f"{kind} → {event.lane} lane{f': {_plain(why)}' if why else ''}" if event.lane and kind else kind


def _admission(trace: Trace) -> Iterator[str]:
    outcome = trace.take("outcome")
    if outcome is not None:
        yield f"admission: {_plain(outcome).replace('_', ' ')}"
    level = trace.number("ladder_level")
    if level:
        yield f"the lane's degradation ladder stood at rung {level:g}"


def _prediction(trace: Trace, story: Story) -> str:
    predicted, band, samples = trace.number("predicted_gpu_s"), trace.pair("band_gpu_s"), trace.number("samples")
    if predicted is None:
        return ""
    story.predicted_s = predicted
    words = f"predicted {predicted:.2f} device seconds"
    if band is not None:
        words += f" ({band[0]:.2f} to {band[1]:.2f})"
    if samples is None:
        return words
    return f"{words}, {f'learned from {samples:g} completions' if samples else 'a prior: nothing like it has completed yet'}"


def _place(event: StatusEvent, trace: Trace) -> str:
    queued = trace.number("queued_gpu_s")
    work = "" if queued is None else f"{queued:.2f} device seconds wait there, its own included"
    place = "" if event.position is None else f"place {event.position} in its lane"
    return "; ".join(part for part in (place, work) if part)


def _processing(event: StatusEvent, trace: Trace, story: Story) -> Iterator[str]:
    if event.progress is not None:
        yield f"step {event.progress.step} of {event.progress.steps} on {event.worker_id or 'its worker'}"
        return
    yield _worker(event, trace)
    yield _wait(event, story)
    yield _version(event, trace)
    yield from _batch(trace)
    yield from _costs(trace)
    yield _degraded(event, story)


def _worker(event: StatusEvent, trace: Trace) -> str:
    why = trace.take("why_worker")
    pool = f" of pool {event.pool}" if event.pool else ""
    worker = f"to {event.worker_id}{pool}{f' ({_plain(why)})' if why else ''}" if event.worker_id else ""
    lease = trace.take("lease_id")
    return ", ".join(part for part in (f"attempt {event.attempt}", worker, _plain(lease) if lease else "") if part)


def _wait(event: StatusEvent, story: Story) -> str:
    """The estimate counts from the event that made it, so it is held against the wait since then."""
    waited = f"waited {seconds(event.waited_s)} since acceptance" if event.waited_s is not None else ""
    if story.estimate is None or story.queued_at is None or story.estimate.high_s >= UNKNOWN_S:
        return waited
    actual = event.at - story.queued_at
    if actual < story.estimate.low_s:
        verdict = "sooner than the band"
    else:
        verdict = "within the band" if actual <= story.estimate.high_s else "later than the band"
    held = f"left its lane after {seconds(actual)} where {_band(story.estimate)} was expected: {verdict}"
    return "; ".join(part for part in (waited, held) if part)


def _version(event: StatusEvent, trace: Trace) -> str:
    version = f"{event.model or 'model'} version {event.model_version}" if event.model_version else ""
    share = trace.number("canary_share")
    if share is not None:
        version += f", the canary: on trial with {100 * share:g} % of the model's requests"
    switch = trace.number("switch_cost_s")
    return "; ".join(part for part in (version, f"a model switch of {seconds(switch)} was reckoned with" if switch else "") if part)


def _batch(trace: Trace) -> Iterator[str]:
    size, mine = trace.number("batch_size"), trace.names("shared_with")
    if size is not None:
        bound = trace.take("batch_bound")
        yield f"micro-batch of {size:g}{f'; no larger because: {_plain(bound)}' if bound else ''}"
        yield _company(round(size), mine)
    key = trace.take("batch_key")
    if key:
        yield f"batch key {_plain(key)}"
    linger = trace.number("linger_s")
    if linger:
        yield f"lingered {seconds(linger)} for company"


def _company(size: int, mine: list[str]) -> str:
    others = size - 1 - len(mine)
    parts = [f"the tenant's own {', '.join(mine)}"] if mine else []
    if others > 0:
        parts.append(f"{others} of other tenants" if len(mine) < 16 else f"{others} more")
    return f"shared with {' and '.join(parts)}" if parts else ""


def _costs(trace: Trace) -> Iterator[str]:
    price = trace.number("price")
    if price is not None:
        yield f"price {price:g} a device second"


def _retrying(event: StatusEvent, trace: Trace, story: Story) -> Iterator[str]:
    yield from _reason(event.reason)
    backoff, failures = trace.number("backoff_s"), trace.number("failures")
    if failures == 0:
        yield "the attempt does not count against it"
    elif failures is not None:
        yield f"failure {failures:g}"
    yield f"back to its lane {f'after {seconds(backoff)}' if backoff else 'at once'}"


def _ended(event: StatusEvent, trace: Trace, story: Story) -> Iterator[str]:
    if event.state is State.REFUSED:
        yield _class(event, trace)
        yield from _admission(trace)
    yield from _reason(event.reason)
    if event.reason is not None and event.reason.retry_after_s is not None:
        yield f"come back in {seconds(event.reason.retry_after_s)}"
    yield from _usage(event, trace, story)
    yield from (_image(image) for image in event.images)
    if trace.take("cached"):
        yield "the images were there already"
    failures = trace.number("failures")
    if failures:
        yield f"after {failures:g} failed {'attempt' if failures == 1 else 'attempts'}"
    yield _degraded(event, story)
    trace.take("lease_id")


def _usage(event: StatusEvent, trace: Trace, story: Story) -> Iterator[str]:
    usage, parts = event.usage, list[str]()
    if event.waited_s is not None:
        parts.append(f"waited {seconds(event.waited_s)}")
    if usage is not None:
        parts.append(f"rendered in {seconds(usage.render_s)}")
        parts.append(f"{usage.steps} steps with {usage.backend} on {usage.device}")
    yield "; ".join(parts)
    if usage is not None:
        yield f"{usage.gpu_seconds:.2f} device seconds{_against(usage.gpu_seconds, story.predicted_s)}"
    yield from _costs(trace)


def _against(actual: float, predicted: float | None) -> str:
    if not predicted:
        return ""
    off = 100 * (actual / predicted - 1)
    verdict = "as predicted" if abs(off) < 1 else f"{abs(off):.0f} % {'more' if off > 0 else 'less'} than predicted"
    return f", {verdict} ({predicted:.2f})"


def _image(image: ImageResult) -> str:
    return f"image {image.index}: {image.key}, {image.width}x{image.height}, seed {image.seed}"


def _reason(reason: Reason | None) -> Iterator[str]:
    if reason is not None:
        yield f"{reason.code}{f' ({reason.field})' if reason.field else ''}: {reason.message}"


def _degraded(event: StatusEvent, story: Story) -> str:
    """Every event discloses it; said where it changed."""
    if event.degraded == story.degraded:
        return ""
    story.degraded = event.degraded
    return f"degraded: {'; '.join(event.degraded) or 'no more'}"


def _band(estimate: Estimate) -> str:
    return f"{seconds(estimate.wait_s)} ({seconds(estimate.low_s)} to {seconds(estimate.high_s)})"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_plain(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_plain(part) for part in value) + "]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


_TELLERS: Mapping[State, Callable[[StatusEvent, Trace, Story], Iterator[str]]] = {
    State.QUEUED: _queued,
    State.PROCESSING: _processing,
    State.RETRYING: _retrying,
}
