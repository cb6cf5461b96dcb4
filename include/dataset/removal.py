"""Taking an author out: which versions hold images of theirs, and the next version of a dataset without them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from include.dataset.authors import exclude_author, is_by
from include.dataset.cache import ImageReader, Place
from include.dataset.config import DatasetConfig
from include.dataset.selection import Selection, rejected
from include.dataset.versions import MANIFEST, DatasetVersion, publish_selection
from models.training.samples import read_manifest


@dataclass(frozen=True, kw_only=True)
class Affected:
    """A version that holds images of an author."""

    version: str
    dataset: str
    digest: str
    samples: int  #: of that author


def versions_with(root: Path, author: str) -> list[Affected]:
    """Every version under ``root`` that credits the author, by the order of their names."""
    return [found for manifest in sorted(root.glob(f"[!.]*/{MANIFEST}")) if (found := _affected(manifest, author)).samples]


def remove_author(root: Path, version: str, author: str) -> DatasetVersion:
    """Publishes the next version of a dataset: ``version`` without the author's images. The versions there are stay as they are.

    From then on no version takes their images. Made from the version's own files, so that its source need not be there any more; splits
    stay as they were. Raises :class:`ValueError` where nothing would be left, :class:`LookupError` for a version of an older release.
    """
    manifest = root / version / MANIFEST
    content = read_manifest(manifest)
    exclude_author(root, author)
    selection = Selection(kept=[], rejects=list(pq.read_table(manifest.with_name(content["quarantine"])).to_pylist()))
    for row in _rows(manifest, content["files"]):
        if is_by(row["author"], author):
            selection.rejects.append(rejected(row, "author", "the author's images are removed from every dataset"))
        else:
            selection.kept.append(row)
    if not selection.kept:
        raise ValueError(f"author: nothing of {version} is left without {author}")
    selection.kept.sort(key=lambda row: row["key"])
    selection.near = _within_groups(selection.kept)
    with ImageReader() as reader:
        return publish_selection(selection, _config_of(content["config"]), root, reader, parent=version)


def _within_groups(rows: Iterable[dict[str, Any]]) -> list[tuple[str, str]]:
    """Near copies as the version had them. Looked for anew there might be others, now that nearer ones are gone, and splits stay."""
    return [(row["group"], row["key"]) for row in rows if row["group"] != row["key"]]


def _affected(manifest: Path, author: str) -> Affected:
    content = read_manifest(manifest)
    samples = sum(count for credit, count in content["authors"].items() if is_by(credit, author))
    return Affected(version=manifest.parent.name, dataset=content["name"], digest=content["digest"], samples=samples)


def _rows(manifest: Path, files: dict[str, list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Samples as a selection has them: the bytes stay where they are."""
    for entry in (entry for entries in files.values() for entry in entries):
        path = manifest.with_name(entry["file"])
        names = [name for name in pq.read_schema(path).names if name != "image"]
        if "fingerprint" not in names:
            raise LookupError(f"{manifest.parent.name} was made before versions had fingerprints; prepare it again")
        for index, row in enumerate(pq.read_table(path, columns=names).to_pylist()):
            yield {**row, "place": Place(path, index)}


def _config_of(said: dict[str, Any]) -> DatasetConfig:
    """A manifest doesn't say where its source was, which a configuration must."""
    return DatasetConfig.model_validate({**said, "path": None if said["source"] == "openmoji" else "removed"})


def newest_of(affected: Iterable[Affected], root: Path) -> dict[str, str]:
    """By dataset, the affected version that was published last."""
    newest: dict[str, tuple[float, str]] = {}
    for found in affected:
        published = (root / found.version / MANIFEST).stat().st_mtime
        newest[found.dataset] = max(newest.get(found.dataset, (0.0, "")), (published, found.version))
    return {dataset: version for dataset, (_, version) in newest.items()}
