"""Canaries that nobody judges: a share is in force, and the run of ``promote_model`` that began it is over, as where it was killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime

from include.lifecycle.airflow_api import AirflowError, RunState, RunUnknownError
from include.lifecycle.versions import CANARY_TAG
from include.registry.aliases import CHALLENGER
from include.registry.client import RegisteredModel, RegistryClient
from include.registry.errors import ModelRejectedError
from include.registry.tags import CANARY_SHARE, CANARY_UNTIL, canary_share

DAG = "promote_model"


def leftover_canaries(registry: RegistryClient, state_of: Callable[[str], RunState]) -> Iterator[str]:
    """What to tell an operator about each, and what to do. Raises what the registry's client raises.

    :param state_of: how the run of ``promote_model`` with that id stands; raises :class:`AirflowError`, :class:`OSError`
    """
    for model in registry.models():
        challenger, share = model.aliases.get(CHALLENGER), _share(model)
        if challenger is None or share is None:
            continue
        why = _unjudged(state_of, registry.version(model.name, challenger).tags.get(f"{CANARY_TAG}run", ""))
        if why:
            yield (
                f"version {challenger} of {model.name} gets {share:.0%} of its requests, and nobody judges it: {why}.{_end(model)} "
                f"To end it now, delete the tag {CANARY_SHARE} at {registry.uri}/#/models/{model.name}; "
                f"to have it judged, start {DAG} with version {challenger}."
            )


def _share(model: RegisteredModel) -> float | None:
    try:
        return canary_share(model.tags, time.time())
    except ModelRejectedError:
        return None  # the watcher gives it no share, and says why


def _unjudged(state_of: Callable[[str], RunState], run: str) -> str:
    """Why nobody judges the canary of that run; empty where somebody does."""
    if not run:
        return f"no run of {DAG} began it"
    try:
        state = state_of(run)
    except RunUnknownError:
        return f"its run {run} is not there any more"
    except (AirflowError, OSError) as error:
        return f"of its run {run} nothing can be known: {error}"
    return f"its run {run} ended, {state}" if state.terminal else ""


def _end(model: RegisteredModel) -> str:
    until = model.tags.get(CANARY_UNTIL)
    return f" It ends by itself at {datetime.fromtimestamp(float(until)).astimezone():%Y-%m-%d %H:%M}." if until else ""
