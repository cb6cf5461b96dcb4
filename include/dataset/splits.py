"""Which samples are trained on and which are held out, with no near copy on the other side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from include.dataset.config import DatasetConfig

Row = dict[str, Any]
_RANK = {"train": 0, "validation": 1, "test": 2}


class LeakError(ValueError):
    """A held-out sample has a near copy among those that are trained on."""


def split_of(sha256: str, config: DatasetConfig) -> str:
    """By content, so that a sample keeps its split whatever is added around it."""
    place = int(sha256[:8], 16) / 2**32
    if place < config.validation:
        return "validation"
    return "test" if place < config.validation + config.test else "train"


def assign_splits(rows: Sequence[Row], config: DatasetConfig) -> None:
    """Gives each row its ``split``. A group goes to train as soon as one of it would: what a model may have seen is never held out."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["group"]].append(row)
    for group in groups.values():
        split = min((split_of(row["sha256"], config) for row in group), key=_RANK.__getitem__)
        for row in group:
            row["split"] = split


def check_leaks(rows: Sequence[Row], pairs: Iterable[tuple[str, str]]) -> None:
    """Raises :class:`LeakError` that names the samples where near copies, given by their keys, lie on two sides."""
    splits = {row["key"]: row["split"] for row in rows}
    crossing = [(one, other) for one, other in pairs if one in splits and other in splits and splits[one] != splits[other]]
    if crossing:
        shown = ", ".join(f"{one} and {other}" for one, other in crossing[:5])
        raise LeakError(f"{len(crossing)} near copies cross the split, such as {shown}; nothing was published")
