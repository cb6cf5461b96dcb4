"""A pool's driver and what makes its workers move on, for the contract test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from include.autoscale.drivers.base import PoolDriver


@dataclass(frozen=True, kw_only=True)
class PoolUnderTest:
    driver: PoolDriver
    settle: Callable[[], None]  #: returns once nobody starts or drains any more
    chooses: bool  #: whether it can choose who leaves
