"""A canary from its beginning to its verdict. Where and since when it runs is in MLflow, so that it outlives whoever watches it."""

from __future__ import annotations

import time
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict

from include.config import Settings
from include.lifecycle.canary import CanaryPolicy, Decision, Figures, Verdict, judge
from include.lifecycle.canary_figures import Tally, TallyReader
from include.lifecycle.versions import CANARY_TAG, set_tags
from include.registry.aliases import CHALLENGER, CHAMPION, delete_alias, set_alias
from include.registry.client import RegisteredModel, RegistryClient
from include.registry.errors import RegistryUnavailableError
from include.registry.tags import CANARY_SHARE, CANARY_UNTIL, canary_trouble, servable

LOOK_S = 2.0
SAY_S = 10.0
#: A canary that nobody ends, because its run was killed, ends by itself this long after its time.
LEFT_ALONE_S = 300.0


class CanaryPlan(BaseModel):
    """One canary."""

    model_config = ConfigDict(frozen=True)

    model: str
    version: str
    champion: str
    started_at: float  #: seconds since 1970


def begin_canary(settings: Settings, model: str, version: str, policy: CanaryPolicy, *, run: str, by: str, why: str) -> CanaryPlan | str:
    """Gives the version its share; the plan of the same canary again where ``run`` has begun it already. Or why there is to be none.

    What an earlier run left over is taken back first. Raises :class:`ValueError` where the version can't take the champion's requests.
    """
    with RegistryClient(settings.mlflow) as client:
        found, tags = client.model(model), client.version(model, version).tags
        champion = found.aliases.get(CHAMPION)
        begun = tags.get(f"{CANARY_TAG}run") == run and found.aliases.get(CHALLENGER) == version and CANARY_SHARE in found.tags
        if begun and champion is not None:
            return CanaryPlan(model=model, version=version, champion=champion, started_at=float(tags[f"{CANARY_TAG}started_at"]))
        if CANARY_SHARE in found.tags or CHALLENGER in found.aliases:
            end_canary(settings, model, by=by, why="left over by an earlier canary")
        none = _no_canary(client, model, version, champion, policy)
        if none or champion is None:
            return none
        plan = CanaryPlan(model=model, version=version, champion=champion, started_at=round(time.time(), 3))
        set_tags(client, model, version, {f"{CANARY_TAG}run": run, f"{CANARY_TAG}started_at": f"{plan.started_at:.3f}"})
        set_alias(model, CHALLENGER, version, by=by, why=why, uri=settings.mlflow)
        client.set_model_tag(model, CANARY_UNTIL, f"{plan.started_at + 60 * policy.canary_minutes + LEFT_ALONE_S:.0f}")
        client.set_model_tag(model, CANARY_SHARE, f"{policy.canary_share:g}")  # last, for it begins the canary
    return plan


def _no_canary(client: RegistryClient, model: str, version: str, champion: str | None, policy: CanaryPolicy) -> str:
    if policy.canary_share == 0:
        return "canary_share is 0"
    if champion is None:
        return "there is no champion yet to compare with"
    if champion == version:
        return "it is the champion already"
    new, old = servable(client.version(model, version)), servable(client.version(model, champion))
    if new.adapter_of is not None:
        return "it is an adapter, which requests ask for by name"
    trouble = canary_trouble(new.defaults, old.defaults)
    if trouble:
        raise ValueError(f"canary_share: version {version} can't take requests of champion {champion}: {trouble}; promote it with 0")
    return ""


def end_canary(settings: Settings, model: str, *, by: str, why: str) -> None:
    """Every request goes to the champion again. May be repeated."""
    with RegistryClient(settings.mlflow) as client:
        client.delete_model_tag(model, CANARY_SHARE)  # first, for it ends the canary
        client.delete_model_tag(model, CANARY_UNTIL)
    delete_alias(model, CHALLENGER, by=by, why=why, uri=settings.mlflow)


def follow_canary(settings: Settings, plan: CanaryPlan, policy: CanaryPolicy, say: Callable[[str], None] = print) -> Verdict:
    """Watches until the verdict is not to wait any more. Raises :class:`BrokerUnavailableError` where there is no broker at the start."""
    tally, said_at = Tally(plan.model, plan.champion, plan.version), 0.0
    with TallyReader(settings, tally, plan.started_at) as reader, RegistryClient(settings.mlflow) as client:
        say(f"canary since {time.time() - plan.started_at:.0f} s; at most {policy.canary_minutes:g} min")
        while True:
            reader.read(LOOK_S)
            figures = tally.figures(time.time() - plan.started_at)
            ended = _ended_by_others(client, plan)
            verdict = Verdict(decision=Decision.BACK, reasons=(ended,)) if ended else judge(figures, policy)
            if verdict.decision is not Decision.WAIT or time.monotonic() - said_at >= SAY_S:
                say(progress(figures, verdict))
                said_at = time.monotonic()
            if verdict.decision is not Decision.WAIT:
                record(settings, plan, figures, verdict)
                return verdict
            time.sleep(LOOK_S / 4)  # events come in bursts, and each look reads all there are


def _ended_by_others(client: RegistryClient, plan: CanaryPlan) -> str:
    """Why the canary is over, whatever the figures: somebody moved an alias or took the share away. Empty where it goes on."""
    try:
        found = client.model(plan.model)
    except RegistryUnavailableError:
        return ""  # asked again at the next look
    return _moved_away(found, plan)


def _moved_away(found: RegisteredModel, plan: CanaryPlan) -> str:
    champion = found.aliases.get(CHAMPION)
    if champion != plan.champion:
        return f"champion was moved from version {plan.champion} to {champion or 'none'} meanwhile"
    if found.aliases.get(CHALLENGER) != plan.version or CANARY_SHARE not in found.tags:
        return "its alias challenger or its share was taken away meanwhile"
    return ""


def progress(figures: Figures, verdict: Verdict) -> str:
    return f"{figures.elapsed_s:.0f} s: {figures.challenger}; {figures.champion} → {verdict.decision}: {'; '.join(verdict.reasons)}"


def record(settings: Settings, plan: CanaryPlan, figures: Figures, verdict: Verdict) -> None:
    """Verdict and figures, on the version."""
    content = {"verdict": verdict.decision, "reasons": "; ".join(verdict.reasons), "figures": f"{figures.challenger}; {figures.champion}"}
    with RegistryClient(settings.mlflow) as client:
        set_tags(client, plan.model, plan.version, {f"{CANARY_TAG}{name}": value[:1000] for name, value in content.items()})
