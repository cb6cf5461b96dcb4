"""Which tests one process of ``pytest -n`` gets together."""

from __future__ import annotations

import pytest

from include.config import PROJECT_ROOT
from tests.support.distribution import HEAVY, INTEGRATION, SERVICES, unit_of


def test_the_folders_it_names_are_there() -> None:
    folders = [str(INTEGRATION / name) for name in SERVICES] + [unit for unit in HEAVY if "/" in unit]
    assert [folder for folder in folders if not (PROJECT_ROOT / folder).is_dir()] == []


@pytest.mark.parametrize(
    ("nodeid", "unit"),
    [
        ("tests/integration/router/test_routing.py::test_metrics", "flink"),
        ("tests/integration/platform/test_flink_cluster.py::test_state", "flink"),
        ("tests/integration/airflow/test_canary.py::test_back", "airflow"),
        ("tests/integration/something_new/test_it.py::test_it[a/b::c]", "kafka"),
        ("tests/unit/models/training/families/test_sana.py::TestIt::test_it", "tests/unit/models/training/families"),
        ("tests/contract/test_object_store.py::test_put[s3]", "tests/contract"),
    ],
)
def test_tests_of_one_service_go_to_one_process(nodeid: str, unit: str) -> None:
    assert unit_of(nodeid) == unit
