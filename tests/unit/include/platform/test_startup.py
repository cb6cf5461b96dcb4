"""What begins beside a start waits for just the services that it needs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from include.config import Settings
from include.platform.service import Service, nothing
from include.platform.startup import Startup, StartupError


@pytest.fixture
def startup(tmp_path: Path) -> Startup:
    services = [Service(name=name, check=nothing) for name in ("needed", "slow")]
    return Startup(Settings(_env_file=None, home=tmp_path), services)


def test_it_goes_on_when_those_are_up_whatever_the_others_do(startup: Startup) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(startup.await_healthy, ("needed",))
        startup.progress["needed"].end("healthy")
        waiting.result(timeout=10)
    assert not startup.progress["slow"].done.is_set()


def test_one_that_failed_is_named(startup: Startup) -> None:
    startup.progress["needed"].end("failed", "no port")
    with pytest.raises(StartupError, match="needs needed"):
        startup.await_healthy(("needed", "slow"))


def test_a_start_that_is_broken_off_leaves_nobody_waiting(startup: Startup) -> None:
    startup.stop.set()
    with pytest.raises(StartupError, match="interrupted"):
        startup.await_healthy(("slow",))
