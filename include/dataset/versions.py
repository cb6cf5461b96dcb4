"""Publishing a dataset version: duplicates merged, splits assigned, shards, manifest and report written, then made visible at once."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from include.dataset.config import DatasetConfig
from include.dataset.files import digest_of, file_digest, write_atomically, write_json, write_table
from include.dataset.report import render_report
from include.dataset.shards import QUARANTINE_SCHEMA, SAMPLE_SCHEMA, ShardResult, plan_config, rejects_of, samples_of
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
    """Makes one version of all shards of a plan. Repeating it, also after a crash, gives the same version."""
    shards = sorted(
        (result if isinstance(result, ShardResult) else ShardResult(**result) for result in results), key=lambda shard: shard.index
    )
    config = plan_config(shards[0].samples)
    kept, duplicates = merge_duplicates([row for shard in shards for row in samples_of(shard)])
    rejects = [row for shard in shards for row in rejects_of(shard)] + duplicates
    for row in kept:
        row["split"] = split_of(row["sha256"], config)
    if not kept:
        raise ValueError(f"no sample was usable; the {len(rejects)} rejects by reason: {_reasons(rejects)}")
    content = digest_of([config.name, config.size, [[row[field] for field in _IDENTITY] for row in kept]])
    target = Path(root) / f"{config.name}-{content[:12]}"
    if not (target / MANIFEST).exists():
        _write_version(target, config, content, kept, rejects)
    return load_version(target / MANIFEST)


_IDENTITY = ("key", "sha256", "captions", "license", "author", "source", "split")


def load_version(manifest: Path | str) -> DatasetVersion:
    """Raises :class:`FileNotFoundError` or :class:`ValueError` for what is not a manifest."""
    content = read_manifest(manifest)
    report = str(Path(manifest).with_name(REPORT))
    return DatasetVersion(
        name=content["name"],
        digest=content["digest"],
        manifest=str(manifest),
        report=report,
        counts=content["counts"],
        rejected=content["rejected"],
    )


def merge_duplicates(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Of samples with equal pixels the first stays and takes over the captions of the others."""
    first: dict[str, dict[str, Any]] = {}
    duplicates = []
    for row in rows:
        kept = first.setdefault(row["sha256"], row)
        if kept is not row:
            kept["captions"] = list(dict.fromkeys([*kept["captions"], *row["captions"]]))
            reason = f"has the pixels of {kept['key']}"
            duplicates.append({"key": row["key"], "path": row["source"], "stage": "duplicate", "reason": reason})
    return list(first.values()), duplicates


def split_of(sha256: str, config: DatasetConfig) -> str:
    """By content, so that a sample keeps its split whatever is added around it."""
    place = int(sha256[:8], 16) / 2**32
    if place < config.validation:
        return "validation"
    return "test" if place < config.validation + config.test else "train"


def _write_version(target: Path, config: DatasetConfig, digest: str, kept: list[dict[str, Any]], rejects: list[dict[str, Any]]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        files = {split: _write_split(work, split, [row for row in kept if row["split"] == split]) for split in SPLITS}
        write_table(work / QUARANTINE, pa.Table.from_pylist(rejects, QUARANTINE_SCHEMA))
        manifest = _manifest(config, digest, kept, rejects, {split: made for split, made in files.items() if made})
        write_json(work / MANIFEST, manifest)
        write_atomically(work / REPORT, render_report(manifest, kept, rejects).encode())
        work.chmod(0o755)
        os.rename(work, target)
    except OSError:
        if not (target / MANIFEST).exists():  # another process may have published the same version meanwhile
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write_split(folder: Path, split: str, rows: list[dict[str, Any]], rows_a_file: int = 4096) -> list[dict[str, Any]]:
    schema = SAMPLE_SCHEMA.append(pa.field("split", pa.string()))
    files = []
    for index, start in enumerate(range(0, len(rows), rows_a_file)):
        path = folder / f"{split}-{index:05d}.parquet"
        part = rows[start : start + rows_a_file]
        write_table(path, pa.Table.from_pylist(part, schema))
        files.append({"file": path.name, "rows": len(part), "sha256": file_digest(path)})
    return files


def _manifest(
    config: DatasetConfig, digest: str, kept: list[dict[str, Any]], rejects: list[dict[str, Any]], files: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    return {
        "kind": "atelier-dataset",
        "schema_version": 1,
        "name": config.name,
        "digest": digest,
        "size": config.size,
        "config": config.model_dump(mode="json", exclude={"path"}),
        "counts": {split: len([row for row in kept if row["split"] == split]) for split in SPLITS},
        "rejected": _reasons(rejects),
        "licenses": dict(Counter(row["license"] or "not stated" for row in kept)),
        "authors": dict(Counter(row["author"] or "not stated" for row in kept).most_common()),
        "files": files,
        "quarantine": QUARANTINE,
        "report": REPORT,
    }


def _reasons(rejects: list[dict[str, Any]]) -> dict[str, int]:
    words = (f"{row['stage']}: " + (row["reason"] if row["stage"] != "duplicate" else "same pixels as another") for row in rejects)
    return dict(Counter(words).most_common())
