"""The README does what it says: its code blocks run, as written, against the stack that the demo left up."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from include.config import PROJECT_ROOT, Settings
from include.gateway.keys import demo_keys
from tests.support.stack import variables

BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (PROJECT_ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
PYTHON = [text for language, text in BLOCKS if language == "python"]
SHELL = [text for language, text in BLOCKS if language == "sh"]


def targets() -> set[str]:
    return set(re.findall(r"^([\w-]+):", (PROJECT_ROOT / "Makefile").read_text(), re.MULTILINE))


def here(text: str, settings: Settings) -> str:
    """The block with this installation's address and Python instead of the default ones."""
    return text.replace("http://127.0.0.1:8000", settings.gateway).replace(".venv/bin/", f"{Path(sys.executable).parent}/")


def run(command: list[str], settings: Settings) -> subprocess.CompletedProcess[str]:
    keys = {"ATELIER_KEY": demo_keys(settings.home)["acme"]}
    environment = {**os.environ, **variables(settings), **keys}
    return subprocess.run(command, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)


def test_there_are_blocks_of_both_kinds() -> None:
    assert PYTHON and len(SHELL) >= 4


def test_make_commands_exist() -> None:
    named = {words[1] for text in SHELL for words in map(str.split, text.splitlines()) if words[:1] == ["make"]}
    assert named == {"demo", "down"} and named <= targets()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("text", PYTHON)
def test_python_block(text: str, settings: Settings, demo: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    assert demo[0].returncode == 0
    done = run([sys.executable, "-c", text], settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("Completed 1 ") and done.stdout.rstrip().endswith("bytes")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("text", [text for text in SHELL if not text.startswith("make ")])
def test_shell_block(text: str, settings: Settings, demo: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    assert demo[0].returncode == 0
    done = run(["bash", "-euo", "pipefail", "-c", here(text, settings)], settings)
    assert done.returncode == 0, done.stdout + done.stderr
