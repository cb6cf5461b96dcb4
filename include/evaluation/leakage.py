"""Whether what is held out was trained on: the same check that publishing a dataset makes, between any two versions."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from include.dataset.fingerprints import stacked
from include.dataset.near_duplicates import find_copies
from models.training.samples import read_manifest

HELD_OUT = ("validation", "test")
_COLUMNS = ["key", "sha256", "fingerprint"]


def leaked_samples(evaluated: Path | str, trained: Path | str) -> list[tuple[str, str]] | None:
    """Pairs of a held-out sample of one version and a near copy of it among the training samples of the other, by their keys.

    None where a version was made before samples had fingerprints.
    """
    held_out, seen = _rows(evaluated, HELD_OUT), _rows(trained, ("train",))
    if held_out is None or seen is None:
        return None
    known, keys = seen["key"].to_pylist(), held_out["key"].to_pylist()
    places = {sha256: row for row, sha256 in enumerate(seen["sha256"].to_pylist())}
    same = {(row, places[sha256]) for row, sha256 in enumerate(held_out["sha256"].to_pylist()) if sha256 in places}
    near = {(new, old) for old, new in find_copies(stacked(seen["fingerprint"].to_pylist()), stacked(held_out["fingerprint"].to_pylist()))}
    return [(keys[one], known[other]) for one, other in sorted(same | near)]


def _rows(manifest: Path | str, splits: tuple[str, ...]) -> pa.Table | None:
    content = read_manifest(manifest)
    files = [Path(manifest).parent / entry["file"] for split in splits for entry in content["files"].get(split, ())]
    if any(not set(_COLUMNS) <= set(pq.read_schema(file).names) for file in files):
        return None
    schema = pa.schema([("key", pa.string()), ("sha256", pa.string()), ("fingerprint", pa.binary())])
    return pa.concat_tables([schema.empty_table(), *(pq.read_table(file, columns=_COLUMNS) for file in files)])
