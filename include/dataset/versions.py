"""Publishing a dataset version: samples selected, splits assigned and checked, files, manifest and report written, all visible at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from include.dataset.cache import ImageReader
from include.dataset.chunks import ChunkWriter, chunked
from include.dataset.config import DatasetConfig
from include.dataset.files import digest_of, folder_at_once, write_atomically, write_json, write_table
from include.dataset.report import render_report
from include.dataset.selection import IDENTITY, Row, Selection, select
from include.dataset.shards import QUARANTINE_SCHEMA, ShardResult, run_config
from include.dataset.splits import assign_splits, check_leaks
from include.dataset.trees import read_range
from models.training.samples import SPLITS, read_manifest

MANIFEST, REPORT, QUARANTINE = "manifest.json", "report.html", "quarantine.parquet"


@dataclass(frozen=True, kw_only=True)
class DatasetVersion:
    """A published version: a directory that never changes."""

    name: str
    digest: str  #: SHA-256 over the samples; the same input gives the same
    manifest: str  #: path of manifest.json
    report: str  #: path of report.html
    counts: dict[str, int]  #: samples by split
    rejected: dict[str, int]  #: by "stage: reason" with numbers left out

    @property
    def version(self) -> str:
        return f"{self.name}-{self.digest[:12]}"


def publish_version(results: Sequence[ShardResult | dict[str, Any]], root: Path | str) -> DatasetVersion:
    """Makes one version of all shards of a plan. Repeating it, also after a crash, gives the same version.

    Raises :class:`ValueError` where no sample is left, :class:`~include.dataset.splits.LeakError` where near copies cross the split.
    """
    first = results[0] if isinstance(results[0], ShardResult) else ShardResult(**results[0])
    config = run_config(Path(first.run))
    with ImageReader() as reader:
        selection = select(Path(first.run), Path(root), config, reader)
        if not selection.kept:
            raise ValueError(f"no sample was usable; the {len(selection.rejects)} rejects by reason: {reasons(selection.rejects)}")
        assign_splits(selection.kept, config)
        version = publish_selection(selection, config, Path(root), reader)
    # The same samples are the same version, whatever else was rejected on the way to them this time.
    write_table(Path(first.run) / QUARANTINE, pa.Table.from_pylist(selection.rejects, QUARANTINE_SCHEMA))
    return replace(version, rejected=reasons(selection.rejects))


def publish_selection(selection: Selection, config: DatasetConfig, root: Path, reader: ImageReader, **more: Any) -> DatasetVersion:
    """The version of these samples, whose splits are assigned.

    :param more: what else the manifest says
    """
    rows = selection.kept
    check_leaks(rows, selection.near)
    content = content_digest(rows, config)
    target = root / f"{config.name}-{content[:12]}"
    if not (target / MANIFEST).exists():
        _write_version(target, config, content, selection, reader, more)
    return load_version(target / MANIFEST)


def content_digest(rows: Sequence[Row], config: DatasetConfig) -> str:
    """Names a version by its samples. Lossless images are named by their pixels alone."""
    stored = [] if config.image_format == "png" else [config.image_format, config.quality]
    return digest_of([config.name, config.size, *stored, [[row[field] for field in IDENTITY] for row in rows]])


def load_version(manifest: Path | str) -> DatasetVersion:
    """Of the manifest at a path, or at s3://bucket/... of the platform's S3.

    Raises :class:`OSError`, :class:`FileNotFoundError` where there is none, or :class:`ValueError` for what is not a manifest.
    """
    content = read_manifest(manifest, read_range)
    report = f"{str(manifest).removesuffix(MANIFEST)}{REPORT}"
    return DatasetVersion(
        name=content["name"],
        digest=content["digest"],
        manifest=str(manifest),
        report=report,
        counts=content["counts"],
        rejected=content["rejected"],
    )


def _write_version(
    target: Path, config: DatasetConfig, digest: str, selection: Selection, reader: ImageReader, more: dict[str, Any]
) -> None:
    with folder_at_once(target, MANIFEST) as work:
        files = _write_files(work, config, selection.kept, reader)
        write_table(work / QUARANTINE, pa.Table.from_pylist(selection.rejects, QUARANTINE_SCHEMA))
        manifest = {**_manifest(config, digest, selection, files), **more}
        write_json(work / MANIFEST, manifest)
        write_atomically(work / REPORT, render_report(manifest, selection.kept, selection.rejects, reader).encode())


def _write_files(work: Path, config: DatasetConfig, rows: list[Row], reader: ImageReader) -> dict[str, list[dict[str, Any]]]:
    writer = ChunkWriter(work.parent, config)
    files: dict[str, list[dict[str, Any]]] = {}
    for split in SPLITS:
        members = sorted((row for row in rows if row["split"] == split), key=lambda row: (row["width"], row["height"], row["key"]))
        made = [asdict(writer.write(chunk, work / f"{split}-{index:05d}.parquet", reader)) for index, chunk in enumerate(chunked(members))]
        if made:
            files[split] = made
    return files


def _manifest(config: DatasetConfig, digest: str, selection: Selection, files: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    rows = selection.kept
    return {
        "kind": "atelier-dataset",
        "schema_version": 1,
        "name": config.name,
        "digest": digest,
        "size": config.size,
        "config": config.model_dump(mode="json", exclude={"path"}),
        "counts": {split: sum(row["split"] == split for row in rows) for split in SPLITS},
        "rejected": reasons(selection.rejects),
        "licenses": dict(Counter(row["license"] or "not stated" for row in rows)),
        "authors": dict(Counter(row["author"] or "not stated" for row in rows).most_common()),
        "files": files,
        "quarantine": QUARANTINE,
        "report": REPORT,
    }


def reasons(rejects: Sequence[Row]) -> dict[str, int]:
    """Rejects by stage and reason; which image a duplicate is of is left out."""
    return dict(Counter(f"{row['stage']}: {_kind(row)}" for row in rejects).most_common())


def _kind(row: Row) -> str:
    if row["stage"] != "duplicate":
        return str(row["reason"])
    return "same pixels as another" if "pixels" in row["reason"] else "near copy of another"
