"""Moving the champion: the gate's inputs, a promotion, the way back; each move says who made it, when, from what and why."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict

from include.config import Settings
from include.lifecycle.canary_run import end_canary
from include.lifecycle.gate import GatePolicy, GateReport, judge
from include.lifecycle.versions import PROMOTION_TAG, ROLLBACK_TAG, facts_of, metrics_of, newest_version, set_tags
from include.registry.aliases import CHAMPION, get_alias, set_alias
from include.registry.client import RegistryClient


class Move(BaseModel):
    """One move of the alias ``champion``."""

    model_config = ConfigDict(frozen=True)

    model: str
    version: str
    previous: str | None  #: the version that served before
    by: str
    why: str
    at: str  #: ISO time, UTC

    def tags(self, prefix: str) -> dict[str, str]:
        return {
            f"{prefix}{name}": value for name, value in (("at", self.at), ("by", self.by), ("from", self.previous or ""), ("why", self.why))
        }


def gate(settings: Settings, model: str, version: str, policy: GatePolicy) -> GateReport:
    """Judges a version, the newest where none is named, against the champion.

    Raises :class:`~include.lifecycle.gate.MissingEvaluationError` where it was not evaluated, and
    :class:`~include.registry.errors.UnknownModelError` where it isn't there.
    """
    with RegistryClient(settings.mlflow) as client:
        version = version or newest_version(client, model)
        tags, champion = client.version(model, version).tags, get_alias(model, CHAMPION, uri=settings.mlflow)
        old = client.version(model, champion).tags if champion and champion != version else {}
    notes = _notes(champion, facts_of(tags), facts_of(old)) if old else ()
    rival = champion if old else None
    facts = {"facts": facts_of(tags), "champion_facts": facts_of(old)}
    return judge(model, version, metrics_of(tags), policy, champion=rival, champion_metrics=metrics_of(old), notes=notes, **facts)


def _notes(champion: str | None, new: Mapping[str, Any], old: Mapping[str, Any]) -> tuple[str, ...]:
    if not old:
        return (f"Champion {champion} was never evaluated; run evaluate_model with version {champion} to compare.",)
    if new.get("dataset_digest") != old.get("dataset_digest"):
        return (f"Champion {champion} was evaluated on {old.get('dataset_version')}, this version on {new.get('dataset_version')}.",)
    return ()


def side_by_side(settings: Settings, model: str, *versions: str | None) -> str:
    """Markdown: the sample grids that evaluate_model rendered of the same prompts, a column each."""
    with RegistryClient(settings.mlflow) as client:
        runs = {version: facts_of(client.version(model, version).tags).get("run_id") for version in versions if version}
    urls = {
        version: f"{settings.mlflow}/get-artifact?{urlencode({'path': 'grid.png', 'run_uuid': run})}"
        for version, run in runs.items()
        if run
    }
    if not urls:
        return ""
    heads = (f"[version {version}]({url})" for version, url in urls.items())
    images = (f"![samples of version {version}]({url})" for version, url in urls.items())
    return f"| {' | '.join(heads)} |\n|{'---|' * len(urls)}\n| {' | '.join(images)} |"


def promote(settings: Settings, model: str, version: str, *, by: str, why: str) -> Move:
    """Makes the version champion, records the promotion on it, and ends its canary, which then gets no request that the champion lacks."""
    current = get_alias(model, CHAMPION, uri=settings.mlflow)
    move = Move(model=model, version=version, previous=current, by=by, why=why, at=_now())
    if current != version:  # else this is a repetition, and the record of the first time is the true one
        _record(settings, move, PROMOTION_TAG)
        set_alias(model, CHAMPION, version, by=by, why=why, uri=settings.mlflow)
    end_canary(settings, model, by=by, why="it is the champion now")
    return move


def rollback(settings: Settings, model: str, to_version: str = "", *, by: str, why: str) -> Move:
    """Moves the champion to a version, the one before the current champion where none is named.

    Raises :class:`LookupError` where that isn't known, :class:`~include.registry.errors.UnknownModelError` where it isn't there.
    """
    current = get_alias(model, CHAMPION, uri=settings.mlflow)
    with RegistryClient(settings.mlflow) as client:
        target = client.version(model, to_version or previous_champion(client, model, current)).version
    move = Move(model=model, version=target, previous=current, by=by, why=why, at=_now())
    set_alias(model, CHAMPION, target, by=by, why=why, uri=settings.mlflow)  # first of all, for somebody is in a hurry
    _record(settings, move, ROLLBACK_TAG)
    return move


def previous_champion(client: RegistryClient, model: str, champion: str | None) -> str:
    """The version that the current champion's promotion replaced."""
    if champion is None:
        raise LookupError(f"model: {model} has no champion, so there is nothing to roll back; name a version")
    previous = client.version(model, champion).tags.get(f"{PROMOTION_TAG}from", "")
    if not previous:
        raise LookupError(f"to_version: no version before champion {champion} of {model} is recorded; name a version")
    return previous


def _record(settings: Settings, move: Move, prefix: str) -> None:
    with RegistryClient(settings.mlflow) as client:
        set_tags(client, move.model, move.version, move.tags(prefix))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
