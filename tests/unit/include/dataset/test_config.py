from __future__ import annotations

import pytest
from pydantic import ValidationError

from include.dataset.config import DatasetConfig


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"size": 0}, "size"),
        ({"size": 60}, "56 would do"),
        ({"size": 10**9}, "size"),
        ({"validation": 0.9}, "validation"),
        ({"name": "../up"}, "name"),
        ({"source": "hub"}, "source"),
        ({"source": "folder"}, "path: give the folder"),
        ({"path": "somewhere"}, "path: give the folder"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_wrong_settings_are_named(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        DatasetConfig.model_validate(changes)


def test_the_defaults_are_openmoji() -> None:
    assert (DatasetConfig().source, DatasetConfig().size) == ("openmoji", 64)
