"""Authors whose images may not be used any more."""

from __future__ import annotations

import json
from pathlib import Path

from include.dataset.files import write_json

EXCLUDED = "excluded_authors.json"


def is_by(credit: str, name: str) -> bool:
    """Whether ``name`` is one of the authors that a credit such as "Ann Lee, OpenMoji" names; case does not matter."""
    wanted = name.strip().casefold()
    credit = credit.casefold()
    return bool(wanted) and (credit.strip() == wanted or wanted in (part.strip() for part in credit.split(",")))


def excluded_authors(root: Path) -> frozenset[str]:
    path = root / EXCLUDED
    return frozenset(json.loads(path.read_text())) if path.is_file() else frozenset()


def exclude_author(root: Path, name: str) -> None:
    """From now on no version under ``root`` takes this author's images. Raises :class:`ValueError` for an empty name."""
    if not name.strip():
        raise ValueError("author: give a name")
    write_json(root / EXCLUDED, sorted({*excluded_authors(root), name.strip()}))
