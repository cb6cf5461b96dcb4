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
from include.contracts.control import AnyControlMessage, ControlKind, ModelRoute, Policy, Scenario
from include.contracts.dispatch import ModelRef
from include.registry.aliases import CHAMPION
from include.registry.client import RegisteredModel, RegistryClient
from include.registry.control_topic import ControlUnavailableError, ControlWriter, read_control
from include.registry.errors import ModelRejectedError, RegistryError, UnknownModelError
from include.registry.ledger import UNKNOWN, AliasLedger, AliasMove
from include.registry.tags import DISTILLED, SERVE, ServableVersion, move_of, servable

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
        self.ledger = AliasLedger(config.home / "ledger" / "aliases.jsonl")
        self.aliases = {key: move.to_version for key, move in self.ledger.current().items()}
        self.last_look: float | None = max((move.at for move in self.ledger.moves()), default=None)
        self.published: dict[str, ModelRoute] = {}
        self.refused: set[tuple[str, str]] = set()  #: (model, version) that can't be served, each logged once
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
        for model in models:
            self._record_moves(model, now)
        for name in {known for known, _ in self.aliases} - {model.name for model in models}:
            self._record_moves(RegisteredModel(name=name), now)
        self._publish_routes(models, now)
        self.last_look = now

    def _publish_routes(self, models: list[RegisteredModel], now: float) -> None:
        serving = {model.name: model for model in models if model.tags.get(SERVE) == "true"}
        for name in sorted(serving.keys() | self.published.keys()):
            route = self._route(name, serving.get(name), now)
            if route is not None and (name not in self.fresh or not _same(self.published.get(name), route)):
                self.write(route)
                self.published[name] = route
                self.fresh.add(name)
                log.info("%s is served by version %s", name, route.champion.version if route.champion else "none")

    def _route(self, name: str, model: RegisteredModel | None, now: float) -> ModelRoute | None:
        """None where nothing is to be said: never served, or a champion that can't be served while another is."""
        version = model.aliases.get(CHAMPION) if model else None
        known = self.published.get(name)
        if version is None:
            return known.model_copy(update={"champion": None, "at": now, "by": NAME}) if known else None
        distilled = model.tags.get(DISTILLED) if model else None
        if name in self.fresh and known and known.champion and known.champion.version == version:
            # A version's files and tags do not change once it is registered; a student may be made of it at any time.
            return known if known.distilled == distilled else known.model_copy(update={"distilled": distilled, "at": now, "by": NAME})
        found = self._servable(name, version)
        if found is None:
            return None
        return ModelRoute(
            at=now,
            by=NAME,
            name=name,
            champion=found.ref,
            previous=_before(known, found.ref),
            defaults=found.defaults,
            is_default=name == self.config.model_name,
            distilled=distilled,
            adapter_of=found.adapter_of,
        )

    def _servable(self, name: str, version: str) -> ServableVersion | None:
        try:
            return servable(self.client.version(name, version))
        except (ModelRejectedError, UnknownModelError) as error:
            if (name, version) not in self.refused:
                log.error("champion of %s can't be served, the version before stays: %s", name, error)
                self.refused.add((name, version))
            return None

    def _record_moves(self, model: RegisteredModel, now: float) -> None:
        known = {alias for name, alias in self.aliases if name == model.name}
        for alias in sorted(known | model.aliases.keys()):
            before, after = self.aliases.get((model.name, alias)), model.aliases.get(alias)
            if before != after:
                self.ledger.append(self._move(model.name, alias, before, after, now))
                self.aliases[model.name, alias] = after
                log.info("alias %s of %s: version %s -> %s", alias, model.name, before or "none", after or "none")

    def _move(self, name: str, alias: str, before: str | None, after: str | None, now: float) -> AliasMove:
        signature = None
        if after is not None:
            try:
                signature = move_of(self.client.version(name, after), alias)
            except UnknownModelError:
                log.warning("version %s of %s was deleted while alias %s named it", after, name, alias)
        # An older signature belongs to an earlier move of this alias to the same version.
        if signature is None or (self.last_look is not None and signature.at < self.last_look - self.config.registry_poll_s - 1):
            by, why = UNKNOWN, ""
        else:
            by, why = signature.by, signature.why
        return AliasMove(at=now, not_before=self.last_look, by=by, why=why, model=name, alias=alias, from_version=before, to_version=after)


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


def watch(config: Settings, stop: threading.Event) -> None:
    """Looks every ``registry_poll_s`` until ``stop``; where MLflow or Kafka is away it says so, backs off and goes on."""
    writer = ControlWriter(config)
    failures, started = 0, False
    with RegistryClient(config.mlflow, timeout_s=5.0) as client:
        watcher = RegistryWatcher(config, client, writer.write)
        while not stop.is_set():
            try:
                if not started:
                    watcher.start(read_control(config))
                    started = True
                watcher.look()
                if failures:
                    log.info("all services answer again")
                failures = 0
            except (RegistryError, ControlUnavailableError, OSError) as error:
                failures += 1
                log.warning("look failed (%d in a row), next in %.0f s: %s", failures, _backoff_s(config, failures), error)
            stop.wait(_backoff_s(config, failures))


def _backoff_s(config: Settings, failures: int) -> float:
    return min(config.registry_poll_s * 2.0**failures, max(MAX_BACKOFF_S, config.registry_poll_s)) if failures else config.registry_poll_s


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    watch(settings(), stop)


if __name__ == "__main__":
    main()
