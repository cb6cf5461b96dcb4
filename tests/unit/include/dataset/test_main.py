from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from include.dataset.__main__ import main, prepare_dataset
from include.dataset.config import DatasetConfig
from include.dataset.loader import load_split, read_manifest


def test_the_command_prints_the_manifest_of_the_version(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--root", str(tmp_path / "root"), "--folder", str(folder), "--name", "pictures", "--size", "16"]
    monkeypatch.setattr(sys, "argv", ["include.dataset", *arguments])
    main()
    printed, progress = capfd.readouterr()
    assert len(load_split(printed.strip(), "train")) + len(load_split(printed.strip(), "validation")) == 10
    assert "shard 0: 10 of 10 kept" in progress


@pytest.mark.parametrize("number", [2, 7, 12, 20, 24])
def test_killed_anywhere_it_goes_on_to_the_same_version_and_no_partial_one_is_seen(
    folder: Path, config: Callable[..., DatasetConfig], tmp_path: Path, number: int
) -> None:
    """Killed right before the so-manieth file appears under its name; the 24th is the version itself."""

    root = tmp_path / "root"
    killed = [sys.executable, "-m", "tests.support.killed", "os.rename", "", str(number), "include.dataset"]
    arguments = ["--root", str(root), "--folder", str(folder), "--name", "pictures", "--size", "16", "--set", "shard_size=4"]
    done = subprocess.run([*killed, *arguments, "--processes", "1"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [path.name for path in root.glob("[!.]*")] == []
    resumed, whole = (prepare_dataset(config(), place, processes=1) for place in (root, tmp_path / "whole"))
    assert read_manifest(resumed.manifest) == read_manifest(whole.manifest)
    assert [path.name for path in root.glob("[!.]*")] == [resumed.version]
