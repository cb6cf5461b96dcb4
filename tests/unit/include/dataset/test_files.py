from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest

from include.dataset.files import digest_of, rows_of, write_atomically


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    write_atomically(target, b"old")

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1}) != digest_of({"a": 1, "b": 3})


def test_rows_are_those_of_arrow() -> None:
    table = pa.table(
        {
            "text": pa.array(["a", "", "ü"]),
            "blob": pa.array([b"\0", b"", b"x"], pa.large_binary()),
            "number": pa.array([1, None, 3], pa.int64()),
            "real": pa.array([0.5, 0.25, 1.0], pa.float32()),
            "lists": pa.array([["a", "b"], [], ["c"]]),
            "holes": pa.array([["a"], None, []], pa.list_(pa.string())),
        }
    )
    both = pa.concat_tables([table, table.slice(1)])
    for each in (table, table.slice(1, 1), table.slice(0, 0), both):
        assert rows_of(each) == each.to_pylist()
