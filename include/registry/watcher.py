"""The registry watcher: looks at MLflow's aliases, publishes which version serves, and keeps the ledger of moves.

Run it with ``python -m include.registry.watcher``. One a cell; a second one would only repeat its messages.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from include.config import Settings, settings
from include.contracts.control import AnyControlMessage, Canary, ControlKind, ModelRoute, Policy, Scenario
from include.contracts.dispatch import ModelRef
from include.registry.aliases import CHALLENGER, CHAMPION
from include.registry.client import RegisteredModel, RegistryClient
from include.registry.control_topic import ControlUnavailableError, ControlWriter, read_control
from include.registry.errors import ModelRejectedError, RegistryError, UnknownModelError
from include.registry.ledger import AliasLedger
from include.registry.recorder import MoveRecorder
from include.registry.tags import DISTILLED, SERVE, ServableVersion, canary_share, canary_trouble, servable
from include.registry.webhook import WebhookReceiver

log = logging.getLogger(__name__)

NAME = "registry-watcher"
MAX_BACKOFF_S = 10.0
_HERE = Path(__file__).parent


class RegistryWatcher:
    """:meth:`look` is one pass: what it could not publish or read, it does at the next."""

    def __init__(
        self, config: Settings, client: RegistryClient, write: Callable[[AnyControlMessage], None], clock: Callable[[], float] = time.time
    ) -> None:
        self.config = config
        self.client = client
        self.write = write
        self.clock = clock
        self.recorder = MoveRecorder(AliasLedger(config.home / "ledger" / "aliases.jsonl"), client)
        self.published: dict[str, ModelRoute] = {}
        self.complaints: dict[str, str] = {}  #: by model, what of it can't be served, logged when it changes
        self.servable: dict[tuple[str, str], ServableVersion] = {}  #: by model and version
        self.fresh: set[str] = set()  #: names of the models whose route was published since the start

    def start(self, control: dict[str, AnyControlMessage]) -> None:
        """Takes up what the control topic says, and publishes the policy and scenarios that it lacks."""
        for message in control.values():
            if isinstance(message, ModelRoute):
                self.published[message.name] = message
        defaults: list[AnyControlMessage] = [default_policy(self.config, self.clock()), *default_scenarios(self.clock())]
        for wanted in defaults:
            if wanted.key not in control or _outdated(control[wanted.key], wanted):
                self.write(wanted)
                log.info("published %s", wanted.key)

    def look(self) -> None:
        """Raises :class:`RegistryError` or :class:`ControlUnavailableError` where MLflow or Kafka is away."""
        now = self.clock()
        models = self.client.models()
        # Serving does not wait for the ledger's disk; what a crash keeps from the ledger, it gets at the next look.
        self._publish_routes(models, now)
        self.recorder.record(models, now)

    def _publish_routes(self, models: list[RegisteredModel], now: float) -> None:
        serving = {model.name: model for model in models if model.tags.get(SERVE) == "true"}
        # A model that is deleted and made anew begins again with version 1.
        self.servable = {key: found for key, found in self.servable.items() if key[0] in serving}
        for name in sorted(serving.keys() | self.published.keys()):
            route = self._route(name, serving.get(name), now)
            if route is not None and (name not in self.fresh or not _same(self.published.get(name), route)):
                self.write(route)
                self.published[name] = route
                self.fresh.add(name)
                log.info("%s is served by %s", name, _served_by(route))

    def _route(self, name: str, model: RegisteredModel | None, now: float) -> ModelRoute | None:
        """None where nothing is to be said: never served, or a champion that can't be served while another is."""
        version = model.aliases.get(CHAMPION) if model else None
        known = self.published.get(name)
        if model is None or version is None:
            return known.model_copy(update={"champion": None, "canary": None, "at": now, "by": NAME}) if known else None
        try:
            route = self._served(name, version, known, now)
        except (ModelRejectedError, UnknownModelError) as error:
            self._complain(name, f"champion of {name} can't be served, the version before stays: {error}")
            return None
        distilled, canary = model.tags.get(DISTILLED), self._canary(model, route, now)
        return route.model_copy(update={"distilled": distilled, "canary": canary, "at": now, "by": NAME})

    def _served(self, name: str, version: str, known: ModelRoute | None, now: float) -> ModelRoute:
        """As published, where that was since the start: a version's files and tags do not change once it is registered."""
        if name in self.fresh and known and known.champion and known.champion.version == version:
            return known
        found = self._servable(name, version)
        return ModelRoute(
            at=now,
            by=NAME,
            name=name,
            champion=found.ref,
            previous=_before(known, found.ref),
            defaults=found.defaults,
            is_default=name == self.config.model_name,
            adapter_of=found.adapter_of,
        )

    def _canary(self, model: RegisteredModel, route: ModelRoute, now: float) -> Canary | None:
        """None where none is wanted, or where it can't be served."""
        version = model.aliases.get(CHALLENGER)
        try:
            share = canary_share(model.tags, now)
            if share is None or version is None or route.champion is None or version == route.champion.version:
                self.complaints.pop(model.name, None)
                return None
            found = self._servable(model.name, version)
            _check_canary(found, route)
        except (ModelRejectedError, UnknownModelError) as error:
            self._complain(model.name, f"challenger of {model.name} gets no requests: {error}")
            return None
        return Canary(challenger=found.ref, share=share)

    def _servable(self, name: str, version: str) -> ServableVersion:
        """Remembered, for on the way back to a version nothing should have to be asked."""
        if (name, version) not in self.servable:
            self.servable[name, version] = servable(self.client.version(name, version))
        return self.servable[name, version]

    def _complain(self, name: str, words: str) -> None:
        """Once, not at every look."""
        if self.complaints.get(name) != words:
            log.error(words)
            self.complaints[name] = words


def _check_canary(found: ServableVersion, route: ModelRoute) -> None:
    if found.adapter_of is not None or route.adapter_of is not None:
        raise ModelRejectedError("an adapter can't be tried on a share of the requests")
    trouble = canary_trouble(found.defaults, route.defaults)
    if trouble:
        raise ModelRejectedError(trouble)


def _served_by(route: ModelRoute) -> str:
    champion = f"version {route.champion.version}" if route.champion else "no version"
    canary = route.canary
    return champion if canary is None else f"{champion}, {100 * canary.share:g} % of the requests by version {canary.challenger.version}"


def default_policy(config: Settings, now: float) -> Policy:
    content = _yaml("policy.yaml")
    return Policy(at=now, by=NAME, lease_s=config.lease_s, max_attempts=config.max_attempts, **content)


def default_scenarios(now: float) -> list[Scenario]:
    return [Scenario(at=now, by=NAME, **row) for row in _yaml("scenarios.yaml")]


def _yaml(name: str) -> Any:
    return yaml.safe_load((_HERE / name).read_text(encoding="utf-8"))


def _same(one: AnyControlMessage | None, other: AnyControlMessage) -> bool:
    """Whether they say the same, whoever said it when."""
    return one is not None and one.model_copy(update={"at": other.at, "by": other.by}) == other


def _before(known: ModelRoute | None, champion: ModelRef) -> ModelRef | None:
    """The version that served before this one."""
    if known is None or known.champion is None:
        return None
    return known.previous if known.champion.key == champion.key else known.champion


def _outdated(found: AnyControlMessage, wanted: AnyControlMessage) -> bool:
    """Scenarios follow their file unless somebody else has changed them; a policy is never replaced."""
    return wanted.kind == ControlKind.SCENARIO and found.by == NAME and not _same(found, wanted)


def watch(config: Settings, stop: threading.Event, wake: threading.Event) -> None:
    """Looks every ``registry_poll_s``, and whenever ``wake`` is set, until ``stop`` is; where MLflow or Kafka is away it says so, backs off
    and goes on."""
    writer = ControlWriter(config)
    failures, started = 0, False
    with RegistryClient(config.mlflow, timeout_s=5.0) as client, WebhookReceiver(wake.set) as receiver:
        watcher = RegistryWatcher(config, client, writer.write)
        while not stop.is_set():
            wake.clear()
            try:
                if not started:
                    watcher.start(read_control(config))
                    started = True
                    if not config.mlflow_uri:  # a server elsewhere can't reach this machine's loopback interface
                        receiver.register(client)
                watcher.look()
                if failures:
                    log.info("all services answer again")
                failures = 0
            except (RegistryError, ControlUnavailableError, OSError) as error:
                failures += 1
                log.warning("look failed (%d in a row), next in %.0f s: %s", failures, _backoff_s(config, failures), error)
            if not stop.is_set():
                wake.wait(_backoff_s(config, failures))


def _backoff_s(config: Settings, failures: int) -> float:
    """After a first failure as soon as ever: one slow answer of a busy MLflow must not cost a rollback another second."""
    return min(config.registry_poll_s * 2.0 ** max(0, failures - 1), max(MAX_BACKOFF_S, config.registry_poll_s))


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    stop, wake = threading.Event(), threading.Event()

    def end(*_: object) -> None:
        stop.set()
        wake.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    watch(settings(), stop, wake)


if __name__ == "__main__":
    main()
