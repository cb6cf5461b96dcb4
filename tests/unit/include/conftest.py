from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from include.config import Settings
from include.dataset import trees
from tests.support.s3 import S3Server


@pytest.fixture
def platform_settings(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Settings]:
    """Of a platform whose bucket is the test's."""
    made = s3_server.settings(Settings(_env_file=None, home=tmp_path))
    monkeypatch.setattr(trees, "settings", lambda: made)
    trees._client.cache_clear()
    yield made
    trees._client.cache_clear()
