"""Which dataset version a pipeline works on: a named one, the newest by a pointer that each publication moves, or one at an address.

A version lies in this installation's own folder, where it goes by its name, or anywhere else: then its address is the folder or
``s3://bucket/prefix`` that holds its ``manifest.json``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from include.config import Settings
from include.dataset.files import folder_at_once, write_atomically, write_json
from include.dataset.trees import is_bucket, read_range
from include.dataset.versions import MANIFEST, QUARANTINE, REPORT, DatasetVersion, load_version
from include.registry.tags import DATASET_AT, DATASET_VERSION
from models.training.samples import read_manifest

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


def is_address(version: str) -> bool:
    return is_bucket(version) or version.startswith("/")


def version_at(address: str) -> DatasetVersion:
    """Raises :class:`LookupError` where no version is there, :class:`OSError` for a bucket that can't be reached."""
    manifest = address if address.endswith(f"/{MANIFEST}") else f"{address.rstrip('/')}/{MANIFEST}"
    try:
        return load_version(manifest)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise LookupError(f"dataset_version: there is no prepared dataset at {address}: {error}") from error


def dataset_of(settings: Settings, version: str, tags: Mapping[str, str]) -> DatasetVersion:
    """A version whose files are on this machine: the named one or the one at an address, else the one that a model was trained on.

    :param tags: of the model's version
    :raises LookupError: there is no such version
    """
    root = dataset_root(settings)
    name, at = version or tags.get(DATASET_VERSION, ""), "" if version else tags.get(DATASET_AT, "")
    if is_address(name):
        return brought(name, root)
    return brought(at, root) if at and name not in versions(root) else resolve(root, name)


def brought(address: str, root: Path) -> DatasetVersion:
    """The version at an address; of a bucket a copy under ``root``, which every pipeline finds by its name from then on.

    Raises as :func:`version_at` does, and :class:`ValueError` where a file isn't the one that the manifest names.
    """
    found = version_at(address)
    target = root / found.version / MANIFEST
    if not is_bucket(found.manifest):
        return found
    if not target.is_file():
        _copy(found, target.parent)
    return load_version(target)


def _copy(version: DatasetVersion, target: Path) -> None:
    source = version.manifest.removesuffix(MANIFEST)
    with folder_at_once(target, MANIFEST) as work:
        for split in read_manifest(version.manifest, read_range)["files"].values():
            for entry in split:
                _copy_file(source, entry["file"], work, entry["sha256"])
        for name in (QUARANTINE, REPORT, MANIFEST):
            _copy_file(source, name, work)


def _copy_file(source: str, name: str, target: Path, sha256: str = "") -> None:
    if Path(name).name != name:
        raise ValueError(f"{source}{MANIFEST} names the file {name!r}; a version's files lie beside its manifest")
    data = read_range(source + name)
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"{source}{name} is not the file of the manifest: its digest differs")
    write_atomically(target / name, data)
