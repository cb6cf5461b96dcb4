"""The degradation ladder: what a request gives up under load, and how far up the ladder a lane is."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from include.contracts.control import ModelRoute, Policy
from include.contracts.dispatch import RenderTask
from include.contracts.events import Lane
from include.contracts.policy import QualityFloor, Rung
from include.contracts.requests import MIN_SIDE, SIDE_MULTIPLE, Tier

#: A fall below a rung's threshold by less than this share of it takes nothing back.
MARGIN = 0.2
#: A share of a whole number may come out a hair above the number that is meant: 0.55 * 20 is more than 11.
_HAIR = 1e-9


@dataclass(frozen=True, slots=True)
class Degraded:
    """What renders in place of what was asked for."""

    task: RenderTask
    model: str  #: registered model that renders: the asked one or its distilled stand-in
    level: int  #: rung that was applied, from 1; 0 where nothing was given up


def degrade(
    task: RenderTask, route: ModelRoute, level: int, tier: Tier, policy: Policy, distilled: ModelRoute | None, *, seeded: bool = False
) -> Degraded:
    """Apply a rung of the policy's ladder as a whole, each part no further than the tier's quality floor.

    Prompt, seed, images and guidance stay. The image keeps its exact aspect and is scaled up to the asked size. What is given up is
    told in ``task.degraded``. Whether an earlier image answers it, which ``task.near`` allows, is known only to the worker, which tells it
    in the completion.

    :param task: as it was asked for
    :param route: of the model that was asked for
    :param level: rung, from 1; above the last it means the last, 0 gives up nothing
    :param distilled: route of the model that ``route.distilled`` names, if there is one
    :param seeded: whether the request names its seed, which means that image and no other
    """
    if level <= 0 or not policy.ladder:
        return Degraded(task, route.name, 0)
    level = min(level, len(policy.ladder))
    rung, floor = policy.ladder[level - 1], policy.quality_floors[tier]
    steps = _steps(task.steps, rung, floor)
    width, height = _size(task, route, max(rung.size, floor.size))
    model = _stand_in(task, (width, height), route, distilled) if rung.distilled and floor.distilled else route.name
    words = _words(task, steps, (width, height), route.name, model)
    near = None if seeded else _near(task, rung, floor)
    if not words and near is None:
        return Degraded(task, route.name, 0)
    change: dict[str, Any] = {"steps": steps, "width": width, "height": height, "degraded": words, "near": near}
    if (width, height) != (task.width, task.height):
        change["upscale_to"] = (task.width, task.height)
    return Degraded(task.model_copy(update=change), model, level)


def _steps(asked: int, rung: Rung, floor: QualityFloor) -> int:
    share = math.ceil(asked * max(rung.steps, floor.steps) - _HAIR)
    return max(share, min(asked, floor.min_steps))


def _near(task: RenderTask, rung: Rung, floor: QualityFloor) -> float | None:
    """Only what a prompt alone describes can be alike: one image, not made from another."""
    if rung.near is None or floor.near is None or task.images > 1 or task.init_image is not None:
        return None
    return max(rung.near, floor.near)


def _size(task: RenderTask, route: ModelRoute, share: float) -> tuple[int, int]:
    """The smallest size of the same aspect with at least this share of the sides; the asked size where there is none."""
    asked = (task.width, task.height)
    sizes = _listed(asked, route) if route.defaults.sizes else _multiples(asked, share)
    fitting = [size for size in sizes if min(size) >= MIN_SIDE and size[0] >= task.width * share - _HAIR]
    return min(fitting, default=asked)


def _listed(asked: tuple[int, int], route: ModelRoute) -> list[tuple[int, int]]:
    width, height = asked
    renderable = [(w, h) for w, h in route.defaults.sizes if w % SIDE_MULTIPLE == h % SIDE_MULTIPLE == 0]
    return [(w, h) for w, h in renderable if w * height == h * width and w < width]


def _multiples(asked: tuple[int, int], share: float) -> list[tuple[int, int]]:
    """The one size, if any: with units of the reduced aspect, every whole number of them keeps the aspect and the multiple."""
    width, height = (side // SIDE_MULTIPLE for side in asked)
    units = math.gcd(width, height)
    unit = (asked[0] // units, asked[1] // units)
    count = max(math.ceil(units * share - _HAIR), math.ceil(MIN_SIDE / min(unit)))
    return [(unit[0] * count, unit[1] * count)] if count < units else []


def _stand_in(task: RenderTask, size: tuple[int, int], route: ModelRoute, distilled: ModelRoute | None) -> str:
    """The distilled model where it can take the task over as it is, else the model itself. Adapters fit the model they were made for."""
    if task.adapters or distilled is None or distilled.name != route.distilled or distilled.champion is None:
        return route.name
    defaults = distilled.defaults
    able = task.images <= defaults.max_images and (not defaults.sizes or size in defaults.sizes)
    return distilled.name if able else route.name


def _words(task: RenderTask, steps: int, size: tuple[int, int], asked_model: str, model: str) -> tuple[str, ...]:
    words = []
    if steps < task.steps:
        words.append(f"{steps} of {task.steps} steps")
    if size != (task.width, task.height):
        words.append(f"{size[0]}x{size[1]} scaled up to {task.width}x{task.height}")
    if model != asked_model:
        words.append(f"model {model} in place of {asked_model}")
    return tuple(words)


@dataclass(slots=True)
class _Climb:
    """Where one lane stands."""

    level: int = 0
    calm_since: float | None = None  #: since when its fill would do for a rung less
    seen_at: float = float("-inf")


class LadderControl:
    """The rung of each lane, with hysteresis.

    The ``n`` rungs share the fill from ``policy.degrade_from`` to 1 evenly: rung ``r`` begins at ``from + (1 - from) * (r - 1) / n``. A
    lane goes up at once. It comes down by one rung whenever its fill was below the threshold of its rung, less :data:`MARGIN` of it,
    for ``hold_s``. Nobody who asks for as long as that counts as calm too: nothing joined the lane meanwhile.

    :param hold_s: seconds
    """

    def __init__(self, hold_s: float = 5.0) -> None:
        self.hold_s = hold_s
        self._climbs = {lane: _Climb() for lane in Lane}

    def level(self, lane: Lane, fill: float, policy: Policy, now: float) -> int:
        """The rung to apply now, 0 for none. ``fill`` is how full the lane is, as a share of its bound."""
        climb, rungs = self._climbs[lane], len(policy.ladder)
        climb.level = min(climb.level, rungs)
        asked = _rung(fill, policy.degrade_from, rungs)
        if asked >= climb.level:
            climb.level, climb.calm_since = asked, None
        else:
            self._come_down(climb, fill, policy, now)
        climb.seen_at = now
        return climb.level

    def _come_down(self, climb: _Climb, fill: float, policy: Policy, now: float) -> None:
        quiet = climb.seen_at if now - climb.seen_at >= self.hold_s else now
        since = quiet if climb.calm_since is None else climb.calm_since
        while climb.level and fill < self._lets_go(climb.level, policy):
            if now - since < self.hold_s:
                climb.calm_since = since
                return
            climb.level, since = climb.level - 1, since + self.hold_s
        climb.calm_since = None

    def _lets_go(self, level: int, policy: Policy) -> float:
        return (1 - MARGIN) * _threshold(level, policy.degrade_from, len(policy.ladder))

    def encode(self) -> str:
        return json.dumps(
            {lane.value: [climb.level, climb.calm_since, climb.seen_at] for lane, climb in self._climbs.items() if climb.level}
        )

    def restore(self, text: str) -> None:
        """Raises :class:`ValueError` for what :meth:`encode` did not write."""
        self._climbs = {lane: _Climb() for lane in Lane}
        for name, (level, calm_since, seen_at) in json.loads(text).items():
            self._climbs[Lane(name)] = _Climb(int(level), calm_since, float(seen_at))


def _threshold(level: int, begin: float, rungs: int) -> float:
    return begin + (1 - begin) * (level - 1) / rungs


def _rung(fill: float, begin: float, rungs: int) -> int:
    if fill < begin or not rungs:
        return 0
    return min(rungs, 1 + math.floor((min(fill, 1.0) - begin) / (1 - begin) * rungs + _HAIR))
