"""Copies and near copies among samples: merged, dropped, or kept together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from include.dataset.cache import ImageReader
from include.dataset.fingerprints import stacked
from include.dataset.near_duplicates import find_copies
from models.training.samples import read_manifest

DUPLICATE = "duplicate"
Row = dict[str, Any]


def merge_duplicates(rows: Sequence[Row]) -> list[Row]:
    """Of samples with equal pixels the first stays and takes over the captions of the others, which are returned as rejects."""
    first: dict[str, Row] = {}
    rejects = []
    for row in rows:
        kept = first.setdefault(row["sha256"], row)
        if kept is not row:
            kept["captions"] = list(dict.fromkeys([*kept["captions"], *row["captions"]]))
            rejects.append(_reject(row, f"has the pixels of {kept['key']}"))
    return rejects


def group_near_duplicates(rows: Sequence[Row], pairs: Iterable[tuple[int, int]]) -> None:
    """Gives each row a ``group``: the key of the first of all that are connected with it by pairs."""
    leaders = list(range(len(rows)))

    def leader(index: int) -> int:
        while leaders[index] != index:
            leaders[index] = leaders[leaders[index]]
            index = leaders[index]
        return index

    for one, other in pairs:
        low, high = sorted((leader(one), leader(other)))
        leaders[high] = low
    for index, row in enumerate(rows):
        row["group"] = rows[leader(index)]["key"]


def drop_near_duplicates(rows: Sequence[Row], pairs: Iterable[tuple[int, int]]) -> list[Row]:
    """In the order of the rows, each that is a near copy of one that stays is returned as a reject.

    Near copies of near copies may stay: what is compared are two images, not a chain of them.
    """
    copies: dict[int, list[int]] = {}
    for low, high in (sorted(pair) for pair in pairs):
        copies.setdefault(high, []).append(low)
    rejects: dict[int, Row] = {}
    for index, row in enumerate(rows):
        original = next((low for low in sorted(copies.get(index, ())) if low not in rejects), None)
        if original is not None:
            rejects[index] = _reject(row, f"is a near copy of {rows[original]['key']}")
    return list(rejects.values())


def without_copies_of(rows: Sequence[Row], versions: Sequence[str], root: Path, reader: ImageReader) -> list[Row]:
    """Rejects for the rows that are in one of the versions or near to one of its images. Raises :class:`LookupError`."""
    rejects: dict[str, Row] = {}
    for version in versions:
        known = hashes_of(version, root)
        digests = dict(zip(known["sha256"].to_pylist(), known["key"].to_pylist(), strict=True))
        fresh = [row for row in rows if row["key"] not in rejects]
        for row in fresh:
            if row["sha256"] in digests:
                rejects[row["key"]] = _reject(row, f"has the pixels of {digests[row['sha256']]} in {version}")
        left = [row for row in fresh if row["key"] not in rejects]
        for old, new in find_copies(stacked(known["fingerprint"].to_pylist()), reader.pictures([row["place"] for row in left])):
            rejects.setdefault(left[new]["key"], _reject(left[new], f"is a near copy of {known['key'][old].as_py()} in {version}"))
    return list(rejects.values())


def hashes_of(version: str, root: Path) -> pa.Table:
    """Key, pixel digest and fingerprint of a version's samples, read without their images. Raises :class:`LookupError`."""
    manifest = root / Path(version).name / "manifest.json"
    if Path(version).name != version or not manifest.is_file():
        raise LookupError(f"against: there is no dataset version {version} in {root}")
    content = read_manifest(manifest)
    files = [manifest.with_name(entry["file"]) for split in content["files"].values() for entry in split]
    if any("fingerprint" not in pq.read_schema(file).names for file in files):
        raise LookupError(f"against: {version} was made before versions had fingerprints; prepare it again")
    return pa.concat_tables([pq.read_table(file, columns=["key", "sha256", "fingerprint"]) for file in files])


def _reject(row: Row, reason: str) -> Row:
    return {"key": row["key"], "path": row.get("path") or row["source"], "stage": DUPLICATE, "reason": reason}
