from __future__ import annotations

import pytest

from tests.unit.include.scheduling.harness import Desk


@pytest.fixture
def desk() -> Desk:
    """A scheduler with model ``emoji`` in service and no workers."""
    return Desk()
