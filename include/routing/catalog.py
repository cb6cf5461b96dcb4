"""What the control topic said last: routes, scenarios, the policy. And what a request becomes under them."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TypeVar

from include.contracts.control import ModelRoute, Policy, Scenario
from include.contracts.dispatch import RenderTask
from include.contracts.errors import Reason, ReasonCode, RefusedError
from include.contracts.events import Lane
from include.contracts.requests import MAX_PROMPT, GenerationRequest, ServiceClass, Tier

Number = TypeVar("Number", int, float)

#: A route may state any cost of a step; sums of predictions must stay numbers.
MAX_PREDICTED_S = 1e6


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A request with every default filled in."""

    model: str  #: registered model; its version is chosen at dispatch
    task: RenderTask
    predicted_s: float  #: device seconds


class Catalog:
    """The last good control messages. Requests are resolved against it when they are accepted."""

    def __init__(self, policy: Policy, default_model: str) -> None:
        self.policy = policy
        self._default_model = default_model
        self._routes: dict[str, ModelRoute] = {}
        self._scenarios: dict[str, Scenario] = {}
        self._lane_of = self._lane_table(policy)

    def put(self, message: ModelRoute | Scenario | Policy) -> None:
        if isinstance(message, ModelRoute):
            self._routes[message.name] = message
        elif isinstance(message, Scenario):
            self._scenarios[message.name] = message
        else:
            self.policy, self._lane_of = message, self._lane_table(message)

    def lane(self, service_class: ServiceClass, tier: Tier) -> Lane:
        return self._lane_of[service_class, tier]

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
        return Resolved(model=route.name, task=task, predicted_s=predict_s(task, route))

    @staticmethod
    def _lane_table(policy: Policy) -> dict[tuple[ServiceClass, Tier], Lane]:
        return {(rule.service_class, rule.tier): rule.lane for rule in policy.lanes}

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


def predict_s(task: RenderTask, route: ModelRoute) -> float:
    """Device seconds by the stated prior: the route's seconds a step, scaled by pixels, steps, images and guidance."""
    pixels = task.width * task.height / (route.defaults.width * route.defaults.height)
    return min(MAX_PREDICTED_S, route.defaults.step_s * task.steps * task.images * pixels * (2 if task.guided else 1))


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
