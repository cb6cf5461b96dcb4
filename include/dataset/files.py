"""The few things preparation asks of a file system, so that another store can stand in for it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq


def write_atomically(path: Path, data: bytes) -> None:
    with writing_atomically(path) as file:
        file.write(data)


@contextmanager
def writing_atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to write into; ``path`` is there whole or not at all, whatever happens meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Any) -> None:
    write_atomically(path, (json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())


def write_table(path: Path, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=1024)
    write_atomically(path, sink.getvalue().to_pybytes())


def read_table(path: Path) -> pa.Table:
    return pq.read_table(path)


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """As ``Table.to_pylist``, which makes an object of Arrow's of each cell on the way and takes several times as long."""
    names = table.column_names
    return [dict(zip(names, cells, strict=True)) for cells in zip(*map(_cells, table.columns), strict=True)]


def _cells(column: pa.ChunkedArray) -> list[Any]:
    if pa.types.is_list(column.type):
        return [cell for chunk in column.chunks for cell in _lists(chunk)]
    if column.null_count:
        return list(column.to_pylist())
    return list(column.to_numpy().tolist())


def _lists(chunk: pa.ListArray) -> list[list[Any]]:
    if chunk.null_count:
        return list(chunk.to_pylist())
    cells, ends = _cells(pa.chunked_array([chunk.flatten()])), chunk.offsets.to_pylist()
    return [cells[start - ends[0] : end - ends[0]] for start, end in pairwise(ends)]


def digest_of(content: Any) -> str:
    """SHA-256 of ``content`` as canonical JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str).encode()).hexdigest()


def table_digest(table: pa.Table) -> str:
    """SHA-256 of a table's rows, which costs much less than that of their JSON. Another release of Arrow may give another."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    return hashlib.sha256(sink.getvalue()).hexdigest()


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def folder_at_once(target: Path, sign: str) -> Iterator[Path]:
    """A folder to fill, which becomes ``target`` as a whole at the end. Where another process was first, which the file ``sign`` in
    ``target`` shows, its folder stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        yield work
        work.chmod(0o755)
        os.rename(work, target)
    except OSError:
        if not (target / sign).exists():
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
