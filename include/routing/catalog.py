"""What the control topic said last: routes, scenarios, the policy. And what a request becomes under them."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from math import inf
from typing import TypeVar

from include.contracts.control import ModelRoute, Policy, Scenario, TenantQuota
from include.contracts.dispatch import RenderTask
from include.contracts.errors import Reason, ReasonCode, RefusedError
from include.contracts.events import Lane
from include.contracts.policy import PoolRule, Quota
from include.contracts.requests import MAX_PROMPT, GenerationRequest, ServiceClass, Tier

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A request with every default filled in."""

    task: RenderTask
    route: ModelRoute  #: of the registered model that was asked for; its version is chosen at dispatch


class Catalog:
    """The last good control messages. Requests are resolved against it when they are accepted."""

    def __init__(self, policy: Policy, default_model: str) -> None:
        self.policy = policy
        self._default_model = default_model
        self._routes: dict[str, ModelRoute] = {}
        self._scenarios: dict[str, Scenario] = {}
        self._quotas: dict[str, Quota] = {}
        self._lane_table = _lane_table(policy)

    def put(self, message: ModelRoute | Scenario | Policy | TenantQuota) -> None:
        if isinstance(message, ModelRoute):
            self._routes[message.name] = message
        elif isinstance(message, Scenario):
            self._scenarios[message.name] = message
        elif isinstance(message, Policy):
            self.policy, self._lane_table = message, _lane_table(message)
        elif message.quota is None:
            self._quotas.pop(message.tenant, None)
        else:
            self._quotas[message.tenant] = message.quota

    def lane(self, service_class: ServiceClass, tier: Tier, predicted_s: float) -> Lane:
        """The policy table: class, tier and complexity to a lane."""
        return next(lane for bound, lane in self._lane_table[service_class, tier] if predicted_s <= bound)

    def lanes_of(self, service_class: ServiceClass) -> frozenset[Lane]:
        """Every lane that requests of a class may get into."""
        return frozenset(rule.lane for rule in self.policy.lanes if rule.service_class is service_class)

    def quota(self, tenant: str, tier: Tier) -> Quota:
        """A tenant's own quota, else its tier's."""
        return self._quotas.get(tenant) or self.policy.quotas[tier]

    def pools(self, request: GenerationRequest, task: RenderTask, model: str, lane: Lane, offered: frozenset[str]) -> frozenset[str]:
        """Which of a cell's pools may render it: neither the request nor the pool's rule is against it."""
        allowed = offered.intersection(request.pools) if request.pools else offered
        if request.exclude_pools:
            allowed = allowed.difference(request.exclude_pools)
        rules = self.policy.pools
        if not rules:
            return allowed
        return frozenset(pool for pool in allowed if pool not in rules or _takes(rules[pool], request.tier, task, model, lane))

    def route(self, model: str) -> ModelRoute | None:
        """The route of a model that some version serves now, else None."""
        route = self._routes.get(model)
        return route if route is not None and route.champion is not None else None

    def resolve(self, request: GenerationRequest) -> Resolved:
        """Fill in scenario, then model defaults. Raises :class:`RefusedError`."""
        scenario = self._scenario(request)
        route = self._route(request, scenario)
        task = _task(request, scenario, route)
        _check_shape(task, route)
        return Resolved(task=task, route=route)

    def _scenario(self, request: GenerationRequest) -> Scenario | None:
        if request.scenario is None:
            return None
        scenario = self._scenarios.get(request.scenario)
        if scenario is None or scenario.retired:
            offered = sorted(name for name, known in self._scenarios.items() if not known.retired)
            raise _refused(ReasonCode.UNKNOWN_SCENARIO, "scenario", f"no scenario {request.scenario}; offered: {_some(offered)}")
        return scenario

    def _route(self, request: GenerationRequest, scenario: Scenario | None) -> ModelRoute:
        name = request.model or (scenario.model if scenario else None) or self._default()
        route = self.route(name)
        if route is None:
            served = sorted(known for known in self._routes if self.route(known))
            raise _refused(ReasonCode.UNKNOWN_MODEL, "model", f"no version of model {name} is in service; in service: {_some(served)}")
        return route

    def _default(self) -> str:
        marked = [route for route in self._routes.values() if route.is_default]
        return max(marked, key=lambda route: route.at).name if marked else self._default_model


def _lane_table(policy: Policy) -> dict[tuple[ServiceClass, Tier], list[tuple[float, Lane]]]:
    """The bounds of each pair, least first, each with its lane."""
    table: dict[tuple[ServiceClass, Tier], list[tuple[float, Lane]]] = {}
    for rule in sorted(policy.lanes, key=lambda rule: inf if rule.max_gpu_s is None else rule.max_gpu_s):
        table.setdefault((rule.service_class, rule.tier), []).append((inf if rule.max_gpu_s is None else rule.max_gpu_s, rule.lane))
    return table


def _takes(rule: PoolRule, tier: Tier, task: RenderTask, model: str, lane: Lane) -> bool:
    return (
        (not rule.tiers or tier in rule.tiers)
        and (not rule.lanes or lane in rule.lanes)
        and (not rule.models or model in rule.models)
        and (rule.max_pixels is None or task.width * task.height <= rule.max_pixels)
    )


def derived_seed(request_id: str) -> int:
    """The seed of a request that gave none: the same at every attempt."""
    return int.from_bytes(sha256(request_id.encode()).digest()[:8], "big") >> 1


def _task(request: GenerationRequest, scenario: Scenario | None, route: ModelRoute) -> RenderTask:
    defaults = route.defaults
    width, height = _size(request, scenario, route)
    return RenderTask(
        request_id=request.request_id,
        tenant=request.tenant,
        prompt=_prompt(request, scenario),
        negative_prompt=request.negative_prompt or (scenario.negative_prompt if scenario else ""),
        width=width,
        height=height,
        steps=_first(request.steps, scenario.steps if scenario else None, defaults.steps),
        guidance=_first(request.guidance, scenario.guidance if scenario else None, defaults.guidance),
        seed=derived_seed(request.request_id) if request.seed is None else request.seed,
        images=request.images,
        image_format=request.image_format,
    )


def _first(*values: Number | None) -> Number:
    return next(value for value in values if value is not None)


def _size(request: GenerationRequest, scenario: Scenario | None, route: ModelRoute) -> tuple[int, int]:
    if request.width is not None and request.height is not None:
        return request.width, request.height
    if scenario is not None and scenario.width is not None and scenario.height is not None:
        return scenario.width, scenario.height
    return route.defaults.width, route.defaults.height


def _prompt(request: GenerationRequest, scenario: Scenario | None) -> str:
    if scenario is None:
        return request.prompt
    prompt = scenario.prompt_template.replace("{prompt}", request.prompt)
    if len(prompt) > MAX_PROMPT:
        spare = MAX_PROMPT - len(scenario.prompt_template.replace("{prompt}", ""))
        message = f"prompt: scenario {scenario.name} leaves room for {max(spare, 0)} characters; this has {len(request.prompt)}"
        raise _refused(ReasonCode.INVALID_FIELD, "prompt", message)
    return prompt


def _check_shape(task: RenderTask, route: ModelRoute) -> None:
    defaults = route.defaults
    if defaults.sizes and (task.width, task.height) not in defaults.sizes:
        sizes = _some([f"{width}x{height}" for width, height in defaults.sizes])
        message = f"model {route.name} does not render {task.width}x{task.height}; it renders {sizes}"
        raise _refused(ReasonCode.UNSUPPORTED_SHAPE, "width", message)
    if task.images > defaults.max_images:
        message = f"model {route.name} renders at most {defaults.max_images} images a request; {task.images} were asked for"
        raise _refused(ReasonCode.UNSUPPORTED_SHAPE, "images", message)


def _some(names: list[str]) -> str:
    return ", ".join(names[:10]) + (" and more" if len(names) > 10 else "") if names else "none"


def _refused(code: ReasonCode, field: str, message: str) -> RefusedError:
    return RefusedError(Reason(code=code, field=field, message=message[:2000]))
