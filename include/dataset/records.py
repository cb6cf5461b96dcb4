"""What a cache's parts say of their images, beside the images: read from one file, however many parts there are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from include.dataset.files import writing_atomically
from include.dataset.near_state import name_of
from include.dataset.trees import stamp_of

#: Of an image that was kept ``stage`` and ``reason`` are empty; of one that was rejected everything but these and ``work`` is.
RECORDS = pa.schema(
    [
        ("work", pa.string()),
        ("part", pa.string()),  #: name of the file
        ("row", pa.int32()),  #: in that file
        ("format", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("picture", pa.string()),  #: names the fingerprint
        ("sha256", pa.string()),
        ("entropy", pa.float32()),
        ("sharpness", pa.float32()),
        ("score", pa.float32()),
        ("stage", pa.string()),
        ("reason", pa.string()),
    ]
)
MERGED = "records.arrow"
_PARTS = b"parts"  #: metadata of the merged file: JSON of the parts in it with their stamps
_FEW_PARTS, _SMALL_SHARE = 16, 1 / 16  #: parts, and share of all records, up to which it is cheaper to read parts than to merge again
_REJECTS = ".rejects.parquet"


def rejects_path(part: Path) -> Path:
    """Beside a part, the images that didn't come through."""
    return part.with_suffix(_REJECTS)


def read_records(folder: Path) -> pa.Table:
    """The records of all parts in a folder. Parts never change, so that what was merged once holds for as long as they are there."""
    stamps = {part.name: stamp_of(part.stat()) for part in _parts(folder)}
    merged, covered = _read_merged(folder / MERGED)
    valid = {name for name, stamp in covered.items() if stamps.get(name) == stamp}
    if len(valid) < len(covered):
        merged = merged.filter(pc.is_in(merged["part"], pa.array(sorted(valid), pa.string())))
    fresh = [_of_part(folder / name) for name in stamps if name not in valid]
    found = pa.concat_tables([merged, *fresh])
    if len(fresh) > _FEW_PARTS or found.num_rows - merged.num_rows > _SMALL_SHARE * found.num_rows:
        _write_merged(folder / MERGED, found, stamps)
    return found


def _parts(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.glob("*.parquet") if not path.name.endswith(_REJECTS))


def _of_part(part: Path) -> pa.Table:
    columns = ["work", "format", "width", "height", "fingerprint", "sha256", "entropy", "sharpness", "score"]
    kept = pq.read_table(part, columns=columns)
    kept = kept.append_column("picture", pa.array([name_of(data) for data in kept["fingerprint"].to_pylist()], pa.string()))
    kept = kept.append_column("row", pa.array(range(kept.num_rows), pa.int32()))
    return pa.concat_tables([_completed(kept, part), _completed(pq.read_table(rejects_path(part)), part)])


def _completed(table: pa.Table, part: Path) -> pa.Table:
    """With all columns of :data:`RECORDS`, those that are not there empty."""
    empty = {pa.string(): "", pa.int32(): -1, pa.float32(): 0.0}
    table = table.append_column("part", pa.array([part.name] * table.num_rows, pa.string()))
    columns = [
        table[field.name].cast(field.type)
        if field.name in table.column_names
        else pa.array([empty[field.type]] * table.num_rows, field.type)
        for field in RECORDS
    ]
    return pa.table(columns, schema=RECORDS)


def _read_merged(path: Path) -> tuple[pa.Table, dict[str, str]]:
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        return table.replace_schema_metadata(), json.loads(table.schema.metadata[_PARTS])
    except (OSError, ValueError, TypeError, KeyError):  # not there, or of an older release: the parts tell the same
        return RECORDS.empty_table(), {}


def _write_merged(path: Path, records: pa.Table, stamps: dict[str, str]) -> None:
    records = records.combine_chunks().replace_schema_metadata({_PARTS: json.dumps(stamps)})
    with writing_atomically(path) as file, pa.ipc.new_file(file, records.schema) as out:
        out.write_table(records)
