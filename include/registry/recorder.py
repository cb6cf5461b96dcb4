"""Keeps the ledger: compares where MLflow's aliases are with where they were, and writes down what moved."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from include.registry.client import RegisteredModel, RegistryClient
from include.registry.errors import RegistryError, UnknownModelError
from include.registry.ledger import AliasLedger, AliasMove
from include.registry.moves import Look, moves_between, with_stop
from include.registry.signatures import Signature, signatures_of, signed_aliases

log = logging.getLogger(__name__)

KEPT = 10  #: recorded signatures of an alias that stay on the registered model, for people who look there
GIVEN_UP_S = 3600.0  #: a signature this old that is not recorded is of a move that was never made


class MoveRecorder:
    """:meth:`record` may be repeated: what the ledger has is not written again."""

    def __init__(self, ledger: AliasLedger, client: RegistryClient) -> None:
        self.ledger = ledger
        self.client = client
        self.aliases = {key: move.to_version for key, move in ledger.current().items()}
        self.last_look = ledger.last_look()
        self._recorded = ledger.signatures()

    def record(self, models: Iterable[RegisteredModel], now: float) -> None:
        """Raises :class:`RegistryError` where MLflow does not answer; what was not recorded then is at the next call."""
        found = {model.name: model for model in models}
        gone = {name for name, at in self._places() if at is not None} - found.keys()
        for model in [*found.values(), *(RegisteredModel(name=name) for name in sorted(gone))]:
            self._record(model, now)
        self.last_look = now
        self.ledger.looked(now)

    def _record(self, model: RegisteredModel, now: float) -> None:
        for alias in sorted(self._aliases_of(model)):
            for move in self._moves(model, alias, now):
                self._write(move)
            self._forget_old(model, alias, now)

    def _moves(self, model: RegisteredModel, alias: str, now: float) -> list[AliasMove]:
        moves = moves_between(*self._look(model, alias, now))
        if all(move.signature is not None for move in moves):
            return moves
        # A list of models is not read at one moment, so that a move may be seen before its signature. Read again, the alias may have gone
        # on; it was where it was seen all the same.
        look, new = self._look(self._again(model), alias, now)
        return with_stop(look, moves_between(look, new), model.aliases.get(alias))

    def _look(self, model: RegisteredModel, alias: str, now: float) -> tuple[Look, list[Signature]]:
        new = [signature for signature in signatures_of(model.tags, alias) if signature.id not in self._recorded]
        before, after = self.aliases.get((model.name, alias)), model.aliases.get(alias)
        return Look(model=model.name, alias=alias, before=before, after=after, last_look=self.last_look, now=now), new

    def _write(self, move: AliasMove) -> None:
        self.ledger.append(move)
        self.aliases[move.model, move.alias] = move.to_version
        if move.signature is not None:
            self._recorded.add(move.signature)
        log.info("alias %s of %s: version %s -> %s, by %s", move.alias, move.model, move.from_version, move.to_version, move.by)

    def _forget_old(self, model: RegisteredModel, alias: str, now: float) -> None:
        known = [each for each in signatures_of(model.tags, alias) if each.id in self._recorded or now - each.at > GIVEN_UP_S]
        for signature in known[:-KEPT]:
            self._delete(model.name, signature)

    def _delete(self, name: str, signature: Signature) -> None:
        try:
            self.client.delete_model_tag(name, signature.tag)
        except RegistryError as error:  # there is time for that
            log.warning("a recorded signature of %s stays for now: %s", name, error)

    def _aliases_of(self, model: RegisteredModel) -> set[str]:
        known = {alias for name, alias in self.aliases if name == model.name}
        return known | model.aliases.keys() | signed_aliases(model.tags)

    def _again(self, model: RegisteredModel) -> RegisteredModel:
        try:
            return self.client.model(model.name)
        except UnknownModelError:
            return RegisteredModel(name=model.name)

    def _places(self) -> Iterable[tuple[str, str | None]]:
        return ((name, version) for (name, _), version in self.aliases.items())
