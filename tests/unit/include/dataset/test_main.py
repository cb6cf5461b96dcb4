from __future__ import annotations

import sys
from pathlib import Path

import pytest

from include.dataset.__main__ import main
from include.dataset.loader import load_split


def test_the_command_prints_the_manifest_of_the_version(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--root", str(tmp_path / "root"), "--folder", str(folder), "--name", "pictures", "--size", "16"]
    monkeypatch.setattr(sys, "argv", ["include.dataset", *arguments])
    main()
    printed, progress = capfd.readouterr()
    assert len(load_split(printed.strip(), "train")) + len(load_split(printed.strip(), "validation")) == 10
    assert "shard 0: 10 of 10 kept" in progress
