"""A second version goes live and is taken back, while requests keep coming."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from include.config import Settings
from include.contracts.events import Lane, State, StatusEvent
from include.contracts.requests import ServiceClass, Tier
from include.demo.burst_plan import Capacity
from include.demo.mlflow_rest import move_alias
from include.demo.observer import Observer, Seen
from include.demo.planned import Planned, Way, kafka_value
from include.demo.sending import Sender
from include.demo.steps import StepFailedError

#: The same few pictures over and over, so that one sees the version change in them.
PROMPTS = ("red apple", "cat face", "rocket", "sun with face")
TENANT, TIER = "hooli", Tier.PRO
#: Seconds between two requests: not less than this, and so many that the workers have time left, for a queue would hide the switch.
LEAST_EVERY_S, LOAD = 0.4, 0.6
SWITCH_TIMEOUT_S = 60.0
GUIDANCE = 3.0  #: of the model's own default
AFTER = 4  #: images of the old version to wait for after the first


@dataclass(frozen=True)
class Shot:
    """One image of the stream."""

    request_id: str
    prompt: str
    sent_at: float  #: seconds since 1970
    event: StatusEvent  #: its terminal event


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The second version's canary, as the router was told of it."""

    share: float  #: of the model's requests
    began_at: float  #: seconds since 1970
    ended_at: float

    def of(self, shots: list[Shot]) -> list[Shot]:
        """Those that were sent while it lasted."""
        return [shot for shot in shots if self.began_at <= shot.sent_at <= self.ended_at]


@dataclass(frozen=True, kw_only=True)
class Rollback:
    first: str  #: the version that serves before and after
    second: str
    promoted_at: float  #: when the alias was seen on the second and the router was told, seconds since 1970
    moved_at: float  #: when the alias was moved back
    seconds: float  #: from the move to the first image of the old version, for a request sent after the move
    shots: list[Shot] = field(default_factory=list)
    trial: Trial | None = None  #: None where there was none

    @property
    def lost(self) -> list[Shot]:
        return [shot for shot in self.shots if shot.event.state is not State.COMPLETED]


class Stream(threading.Thread):
    """Sends a request every now and then until it is stopped.

    :param every_s: seconds between two
    """

    def __init__(self, sender: Sender, run: str, every_s: float = LEAST_EVERY_S) -> None:
        super().__init__(name="demo-stream", daemon=True)
        self.sent: dict[str, tuple[str, float]] = {}
        self.error: Exception | None = None
        self._sender = sender
        self._run = run
        self._every_s = every_s
        self._stopped = threading.Event()

    def run(self) -> None:
        number = 0
        while not self._stopped.is_set() and self.error is None:
            planned = stream_request(f"{self._run}-live-{number:04}", number)
            self.sent[planned.request_id or ""] = (planned.prompt, time.time())
            try:
                self._sender.send(planned)
            except Exception as error:  # shown by the step that runs the stream
                self.error = error
            number += 1
            self._stopped.wait(self._every_s)

    def stop(self) -> None:
        self._stopped.set()
        self.join(40)


def pace(capacity: Capacity) -> float:
    """Seconds between two requests of the stream."""
    return max(LEAST_EVERY_S, 1 / (LOAD * capacity.units_per_s))


def stream_request(request_id: str, number: int) -> Planned:
    prompt = PROMPTS[number % len(PROMPTS)]
    # The guidance differs by what nobody sees, so that each is rendered: of an exact repeat the workers would hand out the stored image.
    fields = {"prompt": prompt, "seed": 7 + number % len(PROMPTS), "guidance": round(GUIDANCE + number / 10_000, 4)}
    return Planned(
        label=prompt,
        way=Way.KAFKA,
        service_class=ServiceClass.REALTIME,
        tenant=TENANT,
        tier=TIER,
        value=kafka_value(request_id, TENANT, TIER, fields),
        request_id=request_id,
        key=request_id,
        fields=fields,
    )


def completions(seen: Seen, sent: dict[str, tuple[str, float]], version: str, since: float) -> list[StatusEvent]:
    """Requests sent at or after ``since`` and completed by ``version``, the earliest first."""
    found = [seen.terminal(request_id) for request_id, (_, at) in list(sent.items()) if at >= since]
    images = [event for event in found if event is not None and event.state is State.COMPLETED and event.model_version == version]
    return sorted(images, key=lambda event: event.at)


def await_version(observer: Observer, stream: Stream, version: str, since: float, count: int = 1) -> StatusEvent:
    """The first completion by the version. Raises :class:`StepFailedError` where there are not ``count`` of them in time."""

    def enough(seen: Seen) -> bool:
        return stream.error is not None or len(completions(seen, stream.sent, version, since)) >= count

    observer.wait(enough, SWITCH_TIMEOUT_S)
    found = observer.ask(lambda seen: completions(seen, stream.sent, version, since))
    if stream.error is not None:
        raise StepFailedError(f"the stream of requests broke off: {stream.error}")
    if len(found) < count:
        raise StepFailedError(
            f"no image of version {version} within {SWITCH_TIMEOUT_S:.0f} s; see `atelier logs registry-watcher` and `worker-0`"
        )
    return found[0]


def switch_and_roll_back(
    settings: Settings,
    observer: Observer,
    stream: Stream,
    versions: tuple[str, str],
    promote_second: Callable[[], object],
    say: Callable[[str], None],
) -> Rollback:
    """With the stream running: promote the second version, see it serve, move the alias back, see the first serve again."""
    first, second = versions
    await_version(observer, stream, first, 0.0, 2)
    say(f"version {first} serves; promoting version {second}")
    asked_at = time.time()
    promote_second()
    promoted_at = went_live(observer, settings.model_name, second, asked_at)
    shown = await_version(observer, stream, second, 0.0)
    say(f"first image of version {second}: {shown.request_id}; moving the alias back to version {first} as MLflow's UI does")
    moved_at = time.time()
    move_alias(settings, settings.model_name, first)
    back = await_version(observer, stream, first, moved_at)
    say(f"first image of version {first} again after {back.at - moved_at:.2f} s")
    await_version(observer, stream, first, moved_at, 1 + AFTER)
    stream.stop()
    shots = _shots(observer, stream)
    trial = observer.ask(lambda seen: trial_of(seen, settings.model_name, second, asked_at, promoted_at))
    return Rollback(
        first=first, second=second, promoted_at=promoted_at, moved_at=moved_at, seconds=back.at - moved_at, shots=shots, trial=trial
    )


def trial_of(seen: Seen, model: str, version: str, since: float, until: float) -> Trial | None:
    """The canary of the version, None where the router was told of none."""
    routes = [route for route in seen.routes if route.name == model and route.at >= since]
    found = [(route.at, route.canary.share) for route in routes if route.canary and route.canary.challenger.version == version]
    if not found:
        return None
    ends = [route.at for route in routes if route.canary is None and route.at > found[0][0]]
    return Trial(share=found[0][1], began_at=found[0][0], ended_at=min([*ends, until]))


def went_live(observer: Observer, model: str, version: str, since: float) -> float:
    """When the registry watcher told the router that the version is the champion. Raises :class:`StepFailedError` where it did not."""

    def moments(seen: Seen) -> list[float]:
        fitting = (route for route in seen.routes if route.name == model and route.champion is not None and route.at >= since)
        return [route.at for route in fitting if route.champion is not None and route.champion.version == version]

    if not observer.wait(lambda seen: bool(moments(seen)), SWITCH_TIMEOUT_S):
        raise StepFailedError(f"nobody told the router of version {version} of {model}; see `atelier logs registry-watcher`")
    return observer.ask(moments)[0]


def _shots(observer: Observer, stream: Stream) -> list[Shot]:
    def all_ended(seen: Seen) -> bool:
        return all(seen.terminal(request_id) for request_id in stream.sent)

    if not observer.wait(all_ended, SWITCH_TIMEOUT_S):
        open_ones = observer.ask(lambda seen: [request_id for request_id in stream.sent if not seen.terminal(request_id)])
        raise StepFailedError(f"lost in the switch: {', '.join(open_ones)}")
    ended = observer.ask(lambda seen: [(request_id, seen.terminal(request_id)) for request_id in stream.sent])
    shots = [Shot(one, *stream.sent[one], event) for one, event in ended if event is not None]
    return sorted(shots, key=lambda shot: shot.event.at)


def calm_waits(rollback: Rollback) -> list[float]:
    """Seconds that each request of the stream waited in the high lane, with nobody else there."""
    events = (shot.event for shot in rollback.shots)
    return [event.waited_s for event in events if event.lane is Lane.HIGH and event.waited_s is not None]
