"""Open-loop arrivals: requests come when they come, however long the queue is."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from include.contracts.errors import refusal_of
from include.contracts.requests import GenerationRequest, ServiceClass
from include.simulation.policy import Arrival
from include.simulation.scenario import Kind, Scenario, Tenant


class RecordingError(ValueError):
    """A recording has a line that is no arrival; the message names the line and the field."""


def poisson(scenario: Scenario, load: float, seconds: float, seed: int) -> Iterator[Arrival]:
    """A Poisson process of each tenant at a steady ``load``, in multiples of what the fleet can do at best."""
    return varying(scenario, load, seconds, seed, lambda _: 1.0, highest=1.0)


def bursts(
    scenario: Scenario, load: float, seconds: float, seed: int, *, factor: float = 5.0, on_s: float = 60.0, off_s: float = 240.0
) -> Iterator[Arrival]:
    """A Poisson process whose rate is multiplied by ``factor`` for ``on_s`` after each ``off_s``."""
    return varying(scenario, load, seconds, seed, lambda t: factor if t % (off_s + on_s) >= off_s else 1.0, highest=max(1.0, factor))


def varying(
    scenario: Scenario, load: float, seconds: float, seed: int, factor: Callable[[float], float], *, highest: float
) -> Iterator[Arrival]:
    """A Poisson process whose rate is multiplied by ``factor(seconds since the start)``, which must stay within ``highest``.

    By thinning (Lewis and Shedler 1979). One process for all tenants: each arrival is a tenant's with the probability of its rate, which is
    the same as one process for each.
    """
    draw = random.Random(f"arrivals {seed}")
    rates = scenario.rates(load)
    total = sum(rates.values())
    tenants, tenant_weights = list(rates), list(accumulate(rates.values()))
    kinds = {tenant: (list(tenant.kinds), list(accumulate(tenant.kinds.values()))) for tenant in tenants}
    at, number = 0.0, 0
    while (at := at + draw.expovariate(total * highest)) < seconds:
        if draw.random() * highest >= factor(at):
            continue
        (tenant,) = draw.choices(tenants, cum_weights=tenant_weights)
        (kind,) = draw.choices(kinds[tenant][0], cum_weights=kinds[tenant][1])
        number += 1
        yield _arrival(scenario.start + at, number, tenant, kind)


def _arrival(at: float, number: int, tenant: Tenant, kind: Kind) -> Arrival:
    # A copy of a checked request: validating each of hundreds of thousands would take longer than scheduling it.
    request = _like(tenant, kind).model_copy(update={"request_id": f"r-{number}", "created_at": at})
    return Arrival(at=at, request=request, service_class=tenant.service_class, raw=_raw(request))


@lru_cache(1024)
def _like(tenant: Tenant, kind: Kind) -> GenerationRequest:
    return GenerationRequest(
        request_id="r-0",
        tenant=tenant.name,
        tier=tenant.tier,
        prompt="a red heart",
        model=kind.model,
        width=kind.side,
        height=kind.side,
        steps=kind.steps,
        guidance=kind.guidance,
        created_at=0.0,
    )


def _raw(request: GenerationRequest) -> str:
    return request.to_json().decode("latin-1")


def write_recording(path: Path, arrivals: Iterable[Arrival]) -> int:
    """One JSON object a line: ``at``, ``class`` and the ``request``; returns how many."""
    written = 0
    with path.open("w", encoding="utf-8") as file:
        for arrival in arrivals:
            line = {"at": arrival.at, "class": arrival.service_class.value, "request": json.loads(arrival.request.to_json())}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            written += 1
    return written


def read_recording(path: Path) -> Iterator[Arrival]:
    """The arrivals of a recorded topic, which must be in order of time. Raises :class:`RecordingError`."""
    last = 0.0
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            arrival = _recorded(line, f"{path.name}, line {number}")
            if arrival.at < last:
                raise RecordingError(f"{path.name}, line {number}: at {arrival.at} is before the line above it; sort the lines by at")
            last = arrival.at
            yield arrival


def _recorded(line: str, where: str) -> Arrival:
    try:
        row: Any = json.loads(line)
        at, service_class = float(row["at"]), ServiceClass(row["class"])
        request = GenerationRequest.model_validate_json(json.dumps(row["request"]))
    except KeyError as error:
        raise RecordingError(f"{where}: {error.args[0]} is missing; a line holds at, class and request") from error
    except ValidationError as error:
        raise RecordingError(f"{where}: request.{refusal_of(error).message}") from error
    except (ValueError, TypeError) as error:
        raise RecordingError(f'{where}: {error}; a line is {{"at": seconds, "class": "realtime" or "batch", "request": {{…}}}}') from error
    return Arrival(at=at, request=request, service_class=service_class, raw=_raw(request))
