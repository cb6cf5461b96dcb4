from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from models.training.checkpoints import TENSORS, CheckpointError, Checkpoints


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system refuses to let a file grow beyond ``size``, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def saved(directory: Path, *steps: int) -> Checkpoints:
    checkpoints = Checkpoints(directory=directory)
    for step in steps:
        checkpoints.save(step, {"weight": torch.full((1000,), float(step))}, {"seed": 1})
    return checkpoints


def test_the_newest_is_read_back_and_the_oldest_go(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 10, 20, 1_000_000)
    found = checkpoints.newest()
    assert found is not None
    assert (found.facts["step"], found.facts["seed"], found.tensors["weight"][0]) == (1_000_000, 1, 1_000_000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000020", "step-1000000"]


def test_a_damaged_one_is_passed_over_with_a_line(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 10, 20)
    file = tmp_path / "step-000020" / TENSORS
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    lines: list[str] = []
    found = checkpoints.newest(lines.append)
    assert found is not None
    assert found.facts["step"] == 10
    assert len(lines) == 1
    assert "step-000020 is damaged" in lines[0]


@pytest.mark.parametrize("left", ["", "{", "[]", "{}"])
def test_one_without_its_facts_is_passed_over(tmp_path: Path, left: str) -> None:
    checkpoints = saved(tmp_path, 10, 20)
    (tmp_path / "step-000020" / "state.json").write_text(left)
    found = checkpoints.newest(lambda line: None)
    assert found is not None
    assert found.facts["step"] == 10


def test_without_any_there_is_none(tmp_path: Path) -> None:
    assert Checkpoints(directory=tmp_path / "nothing").newest() is None


def test_a_full_disk_leaves_the_one_before(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 10)
    with files_of_at_most(1000), pytest.raises(CheckpointError, match="step-000020 could not be written"):
        checkpoints.save(20, {"weight": torch.zeros(1000)}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["step-000010"]
    found = checkpoints.newest()
    assert found is not None
    assert found.facts["step"] == 10


def test_who_may_not_write_changes_nothing(tmp_path: Path) -> None:
    saved(tmp_path, 10)

    def refuse() -> None:
        raise RuntimeError("taken over")

    with pytest.raises(RuntimeError, match="taken over"):
        Checkpoints(directory=tmp_path, may_write=refuse).save(10, {"weight": torch.zeros(1)}, {})
    found = Checkpoints(directory=tmp_path).newest()
    assert found is not None
    assert found.tensors["weight"].shape == (1000,)
