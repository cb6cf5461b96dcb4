"""How the tests are shared out between the processes of ``pytest -n``.

A service is started once by each process that needs it, so tests that need the same services go to one process. What takes longest is
given away first, so that no process is left with it at the end.
"""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from xdist.scheduler import LoadScopeScheduling

INTEGRATION = PurePosixPath("tests/integration")
#: Folder of tests/integration → what its tests share. Those of other folders need a broker at most.
SERVICES = {
    "airflow": "airflow",
    "archive": "flink",
    "lifecycle": "mlflow",
    "platform": "flink",
    "registry": "mlflow",
    "router": "flink",
    "worker": "mlflow",
}
#: Longest first; all that is not named comes after these, by name.
HEAVY = (
    "airflow",
    "flink",
    "mlflow",
    "kafka",
    "tests/unit/models/training",
    "tests/unit/models/backends",
    "tests/unit/models/compression",
    "tests/unit/include/worker",
    "tests/unit/include/scheduling",
)


def unit_of(nodeid: str) -> str:
    """What a test is given away with: the services of an integration test, else its folder, whose fixtures may have trained a model."""
    folder = PurePosixPath(nodeid.split("::")[0]).parent
    if folder.is_relative_to(INTEGRATION):
        return SERVICES.get(folder.parts[2], "kafka")
    return str(folder)


def in_order_of_weight(items: list[pytest.Item]) -> None:
    """Sorts in place; tests of one unit keep their order."""

    def weight(item: pytest.Item) -> tuple[int, str]:
        unit = unit_of(item.nodeid)
        return (HEAVY.index(unit) if unit in HEAVY else len(HEAVY), unit)

    items.sort(key=weight)


class ByService(LoadScopeScheduling):
    """Gives whole units away, in the order in which the tests were collected."""

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)  # type: ignore[arg-type]

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)
