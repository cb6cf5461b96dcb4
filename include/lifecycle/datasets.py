"""Which dataset version a pipeline works on: a named one, or the newest by a pointer that each publication moves."""

from __future__ import annotations

import json
from pathlib import Path

from include.config import Settings
from include.dataset.files import write_json
from include.dataset.versions import MANIFEST, DatasetVersion, load_version

POINTER = "newest.json"


def dataset_root(settings: Settings) -> Path:
    """The directory that holds all dataset versions."""
    return settings.home.resolve() / "datasets"


def point_to(version: DatasetVersion, root: Path) -> None:
    """Makes this version the newest one. The pointer is what counts; an asset event is only a hint to look at it."""
    write_json(root / POINTER, {"version": version.version, "digest": version.digest})


def resolve(root: Path, version: str = "") -> DatasetVersion:
    """The version of that name, or the newest. Raises :class:`LookupError` that names what there is."""
    name, known = version or newest_name(root), versions(root)
    if name not in known:
        there_are = ", ".join(known) or "none; run prepare_dataset first"
        raise LookupError(f"dataset_version: there is no dataset version {version or 'to take'}; there are: {there_are}")
    return load_version(root / name / MANIFEST)


def versions(root: Path) -> list[str]:
    return sorted(path.parent.name for path in root.glob(f"[!.]*/{MANIFEST}"))


def newest_name(root: Path) -> str:
    """The version that the pointer names; empty where nothing was published."""
    pointer = root / POINTER
    return str(json.loads(pointer.read_text())["version"]) if pointer.is_file() else ""
