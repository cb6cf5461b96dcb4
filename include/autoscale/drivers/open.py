"""From a pool's rule to its driver."""

from __future__ import annotations

from include.autoscale.drivers.base import DriverError, PoolDriver
from include.autoscale.rules import KubernetesTarget, PoolScaling
from include.config import Settings


def open_driver(settings: Settings, pool: str, rule: PoolScaling) -> PoolDriver:
    """Raises :class:`DriverError` where the driver can't serve this pool."""
    if isinstance(rule.driver, KubernetesTarget):
        from include.autoscale.drivers.kubernetes import KubernetesDriver

        return KubernetesDriver(rule.driver)
    if pool != settings.worker_pool:
        raise DriverError(
            f"pools.{pool}.driver: the local profile's workers are of pool {settings.worker_pool}; name that one, or use kubernetes"
        )
    from include.autoscale.drivers.local import LocalDriver

    return LocalDriver(settings, rule.max_workers)
