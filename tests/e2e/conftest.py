"""The demo in small, run once for all end-to-end tests; the files of this folder run in the order of their names."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.config import Settings
from tests.support.services import free_settings
from tests.support.stack import SMALL, atelier


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    found = free_settings(tmp_path_factory.mktemp("atelier"))
    yield found
    atelier(found, "down", timeout_s=120)


@pytest.fixture(scope="session")
def demo(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """The finished demo and its folder."""
    out = tmp_path_factory.mktemp("demo")
    return atelier(settings, "demo", "--out", str(out), *SMALL, timeout_s=1100), out
