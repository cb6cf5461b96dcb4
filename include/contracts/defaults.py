"""The policy that holds until the control topic says otherwise."""

from __future__ import annotations

from include.contracts.control import Policy
from include.contracts.events import Lane
from include.contracts.policy import LaneRule
from include.contracts.requests import ServiceClass, Tier

#: Of what costs more than the rules below say.
_LANES = {
    (ServiceClass.REALTIME, Tier.ENTERPRISE): Lane.HIGH,
    (ServiceClass.REALTIME, Tier.PRO): Lane.NORMAL,
    (ServiceClass.REALTIME, Tier.FREE): Lane.NORMAL,
    (ServiceClass.BATCH, Tier.ENTERPRISE): Lane.NORMAL,
    (ServiceClass.BATCH, Tier.PRO): Lane.LOW,
    (ServiceClass.BATCH, Tier.FREE): Lane.LOW,
}

#: What takes minutes does not hold up what takes seconds.
_LONG = (LaneRule(service_class=ServiceClass.REALTIME, tier=Tier.PRO, lane=Lane.HIGH, max_gpu_s=120.0),)


def default_policy(*, lease_s: float = 30.0, max_attempts: int = 3) -> Policy:
    """What holds until the control topic says otherwise."""
    return Policy(
        at=0.0,
        by="built in",
        lanes=tuple(LaneRule(service_class=service_class, tier=tier, lane=lane) for (service_class, tier), lane in _LANES.items()) + _LONG,
        lease_s=lease_s,
        max_attempts=max_attempts,
        lane_bound_s={Lane.HIGH: 600.0, Lane.NORMAL: 3600.0, Lane.LOW: 36000.0},
    )
