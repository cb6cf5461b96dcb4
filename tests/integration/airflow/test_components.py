"""The four processes of Airflow are up, behind a password."""

from __future__ import annotations

import pytest

from include.config import Settings
from include.platform.airflow import check_component, credentials


@pytest.mark.parametrize("component", ["metadatabase", "scheduler", "dag_processor", "triggerer"])
def test_it_says_that_it_is_well(airflow: Settings, component: str) -> None:
    check_component(airflow, component)


def test_the_admin_has_a_password_of_this_installation(airflow: Settings) -> None:
    user, password = credentials(airflow)
    assert user == "admin" and len(password) >= 16
