"""What the libraries below say at their import, and nobody can do anything about."""

from __future__ import annotations

import logging

import pytest

import models


@pytest.mark.parametrize("name", models.NOISE)
def test_only_the_known_words_are_left_out(name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger(name)
    # What other tests imported may have turned it down, or keep its words from the root logger.
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    monkeypatch.setattr(logger, "disabled", False)
    with caplog.at_level(logging.WARNING, logger=name):
        logger.warning("%s " + models.NOISE[name], "something")
        logger.warning("something else")
    assert [record.getMessage() for record in caplog.records] == ["something else"]
