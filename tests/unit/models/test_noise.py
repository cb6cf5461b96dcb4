"""What the libraries below say at their import, and nobody can do anything about."""

from __future__ import annotations

import logging

import pytest

import models


@pytest.mark.parametrize("name", models.NOISE)
def test_only_the_known_words_are_left_out(name: str, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger(name)
    logger.warning("%s " + models.NOISE[name], "something")
    logger.warning("something else")
    assert [record.getMessage() for record in caplog.records] == ["something else"]
