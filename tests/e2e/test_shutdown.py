"""`atelier down` ends every process of the installation. Named to run last: the other end-to-end tests need the stack."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from include.config import Settings
from include.platform.processes import service_processes
from tests.support.stack import atelier


@pytest.mark.timeout(1200)
def test_down_leaves_no_process(settings: Settings, demo: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    assert demo[0].returncode == 0
    done = atelier(settings, "down", timeout_s=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert service_processes(settings.home) == {}
