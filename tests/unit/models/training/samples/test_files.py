from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from models.training.samples.files import FileCache


def test_a_full_cache_forgets_what_was_used_longest_ago(tmp_path: Path) -> None:
    contents = {f"s3://bucket/{name}": name.encode() * 10 for name in "abc"}
    fetched: list[str] = []

    def read(path: str) -> bytes:
        fetched.append(path)
        return contents[path]

    cache = FileCache(tmp_path, limit=20, read=read)
    for step, name in enumerate(("a", "b", "a", "c", "a", "b")):
        path = f"s3://bucket/{name}"
        local = cache.local(path, hashlib.sha256(contents[path]).hexdigest())
        assert local.read_bytes() == contents[path]
        os.utime(local, (step, step))
    assert [path[-1] for path in fetched] == ["a", "b", "c", "b"]
    with pytest.raises(ValueError, match="digest differs"):
        cache.local("s3://bucket/c", "0" * 64)
    with pytest.raises(ValueError, match="give a folder"):
        FileCache(None).local("s3://bucket/c", "0" * 64)
