"""What a request is to the scheduler: its lane, its cost, its quality, and where it may render."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from include.contracts.dispatch import RenderTask
from include.contracts.errors import Reason, ReasonCode, RefusedError
from include.contracts.events import Lane
from include.contracts.requests import GenerationRequest, ServiceClass
from include.routing.catalog import Catalog, Resolved
from include.routing.cost_model import CostModel, Prediction, Work
from include.routing.ladder import degrade


@dataclass(slots=True, kw_only=True)
class Classified:
    """A request as it is going to be queued."""

    lane: Lane
    model: str  #: registered model; its version is chosen at dispatch
    task: RenderTask
    prediction: Prediction
    pools: frozenset[str]
    level: int = 0  #: rung of the degradation ladder; 0 means as asked for


class Classifier:
    """Class and tier come with the request, complexity from the cost model; the policy table makes a lane of the three.

    The lane is that of what was asked for. The ladder then may take quality away, which never changes the lane.
    """

    def __init__(self, catalog: Catalog, costs: CostModel, pools: frozenset[str]) -> None:
        self._catalog = catalog
        self._costs = costs
        self._pools = pools

    def classify(self, request: GenerationRequest, service_class: ServiceClass, level_of: Callable[[Lane], int]) -> Classified:
        """``level_of`` tells the rung that a lane's load asks of realtime requests. Raises :class:`RefusedError`."""
        resolved = self._catalog.resolve(request)
        asked = self._predict(resolved.task, resolved.route.name)
        lane = self._catalog.lane(service_class, request.tier, asked.seconds)
        found = Classified(lane=lane, model=resolved.route.name, task=resolved.task, prediction=asked, pools=frozenset())
        if service_class is ServiceClass.REALTIME and request.allow_degradation and (level := level_of(lane)):
            found = self._degraded(found, resolved, request, level)
        return self._placed(found, request)

    def pools(self, request: GenerationRequest, task: RenderTask, model: str, lane: Lane) -> frozenset[str]:
        return self._catalog.pools(request, task, model, lane, self._pools)

    def _degraded(self, found: Classified, resolved: Resolved, request: GenerationRequest, level: int) -> Classified:
        stand_in = self._catalog.route(resolved.route.distilled) if resolved.route.distilled else None
        seeded = request.seed is not None
        less = degrade(found.task, resolved.route, level, request.tier, self._catalog.policy, stand_in, seeded=seeded)
        if not less.level:
            return found
        found.model, found.task, found.level = less.model, less.task, less.level
        found.prediction = self._predict(less.task, less.model)
        return found

    def _placed(self, found: Classified, request: GenerationRequest) -> Classified:
        found.pools = self.pools(request, found.task, found.model, found.lane)
        if not found.pools:
            message = f"pools: none of this cell's ({', '.join(sorted(self._pools))}) takes this request"
            if request.pools:
                message += f"; it asks for {', '.join(request.pools)}"
            raise RefusedError(Reason(code=ReasonCode.UNSUPPORTED_SHAPE, field="pools", message=message))
        return found

    def _predict(self, task: RenderTask, model: str) -> Prediction:
        route = self._catalog.route(model)
        assert route is not None and route.champion is not None
        return self._costs.predict(route.champion.key, Work.of(task), route.defaults)
