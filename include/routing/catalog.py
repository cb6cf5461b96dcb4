"""What the control topic said last: routes, scenarios, the policy. And what a request becomes under them."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from math import inf
from typing import TypeVar

from include.contracts.control import ModelRoute, Policy, Scenario, TenantQuota
from include.contracts.dispatch import AdapterRef, ModelRef, RenderTask
from include.contracts.errors import Reason, ReasonCode, RefusedError
from include.contracts.events import Lane
from include.contracts.policy import PoolRule, Quota
from include.contracts.requests import DEFAULT_STRENGTH, MAX_PROMPT, GenerationRequest, ServiceClass, Tier, derived_seed

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
        self._default_model = self._default = default_model
        self._routes: dict[str, ModelRoute] = {}
        self._scenarios: dict[str, Scenario] = {}
        self._quotas: dict[str, Quota] = {}
        self._lane_table = _lane_table(policy)

    def put(self, message: ModelRoute | Scenario | Policy | TenantQuota) -> None:
        if isinstance(message, ModelRoute):
            self._routes[message.name] = message
            self._default = self._marked_default()
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
        """The route of a model that some version serves now, else None; an adapter serves nothing by itself."""
        route = self._routes.get(model)
        return route if route is not None and route.champion is not None and route.adapter_of is None else None

    def resolve(self, request: GenerationRequest) -> Resolved:
        """Fill in scenario, then model defaults. Raises :class:`RefusedError`."""
        scenario = self._scenario(request)
        route = self._route(request, scenario)
        task = _task(request, scenario, route, self._adapters(request, route))
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
        name = request.model or (scenario.model if scenario else None) or self._default
        asked, route = self._routes.get(name), self.route(name)
        if asked is not None and asked.adapter_of is not None:
            message = f"{name} is an adapter of model {asked.adapter_of}; ask for that model, with {name} among adapters"
            raise _refused(ReasonCode.UNKNOWN_MODEL, "model", message)
        if route is None:
            served = sorted(known for known in self._routes if self.route(known))
            raise _refused(ReasonCode.UNKNOWN_MODEL, "model", f"no version of model {name} is in service; in service: {_some(served)}")
        return route

    def _adapters(self, request: GenerationRequest, route: ModelRoute) -> tuple[AdapterRef, ...]:
        """By name, so that equal sets render together; without those that are to act not at all."""
        found = []
        for place, adapter in enumerate(request.adapters):
            own = self._routes.get(adapter.name)
            if own is None or own.champion is None or own.adapter_of != route.name:
                raise _refused(ReasonCode.UNKNOWN_MODEL, f"adapters.{place}.name", self._no_adapter(adapter.name, route.name))
            if adapter.weight:
                found.append(AdapterRef(model=own.champion, weight=adapter.weight))
        return tuple(sorted(found, key=lambda adapter: adapter.model.name))

    def _no_adapter(self, name: str, model: str) -> str:
        own = self._routes.get(name)
        others = sorted(route.name for route in self._routes.values() if route.adapter_of == model and route.champion)
        if own is None or own.adapter_of is None:
            why = f"there is no adapter {name}"
        elif own.adapter_of != model:
            why = f"{name} is an adapter of model {own.adapter_of}, not of {model}"
        else:
            why = f"no version of adapter {name} is in service"
        return f"{why}; adapters of {model} in service: {_some(others)}"

    def _marked_default(self) -> str:
        marked = [route for route in self._routes.values() if route.is_default and route.adapter_of is None]
        return max(marked, key=lambda route: route.at).name if marked else self._default_model


def version_for(route: ModelRoute, request_id: str) -> ModelRef | None:
    """Which version a request asks for: the challenger of a canary for its share of the requests, else the champion.

    The id and the challenger decide, so every attempt of a request asks for the same version, no state is kept, a larger share keeps the
    requests of a smaller one, and the next challenger gets others. As even as SHA-256 is uniform: of n requests, n·share ± sqrt(n)/2.
    """
    canary = route.canary
    if canary is None:
        return route.champion
    digest = sha256(f"{canary.challenger.digest}:{request_id}".encode()).digest()
    return canary.challenger if int.from_bytes(digest[:8], "big") < canary.share * 2**64 else route.champion


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


def _task(request: GenerationRequest, scenario: Scenario | None, route: ModelRoute, adapters: tuple[AdapterRef, ...]) -> RenderTask:
    defaults = route.defaults
    width, height = _size(request, scenario, route)
    return RenderTask.trusted(
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
        adapters=adapters,
        init_image=request.init_image,
        strength=None if request.init_image is None else _first(request.strength, DEFAULT_STRENGTH),
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
