"""Arrow in, Arrow out: the frame that every stage has in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from include.dataset.config import DatasetConfig
from include.dataset.stages.rejection import RejectedError

REJECTS = pa.schema([("work", pa.string()), ("stage", pa.string()), ("reason", pa.string())])


@dataclass(frozen=True, kw_only=True)
class Staged:
    """What a stage made of a table."""

    kept: pa.Table
    rejected: pa.Table  #: schema :data:`REJECTS`


Stage = Callable[[pa.Table, DatasetConfig], Staged]


def each_row(
    table: pa.Table,
    work: Callable[[dict[str, Any]], dict[str, Any]],
    *,
    adds: Sequence[tuple[str, pa.DataType]] = (),
    drops: Iterable[str] = (),
) -> Staged:
    """Gives each row to ``work``, which returns the added columns, or raises :class:`RejectedError` and takes the row out.

    The columns that stay are not copied.
    """
    added: dict[str, list[Any]] = {name: [] for name, _ in adds}
    kept, rejected = [], []
    for index, row in enumerate(_rows(table)):
        try:
            made = work(row)
        except RejectedError as error:
            rejected.append({"work": row["work"], "stage": error.stage, "reason": error.reason})
            continue
        kept.append(index)
        for name, values in added.items():
            values.append(made[name])
    left = table.drop_columns(list(drops))
    left = left if len(kept) == table.num_rows else left.take(pa.array(kept, pa.int64()))
    for name, kind in adds:
        left = left.append_column(name, pa.array(added[name], kind))
    return Staged(kept=left, rejected=pa.Table.from_pylist(rejected, REJECTS))


def run_stages(table: pa.Table, stages: Sequence[Stage], config: DatasetConfig) -> Staged:
    """One stage after the other; what one rejects, the next ones don't see."""
    rejected = []
    for stage in stages:
        staged = stage(table, config)
        table = staged.kept
        rejected.append(staged.rejected)
    return Staged(kept=table, rejected=pa.concat_tables(rejected))


def _rows(table: pa.Table) -> Iterable[dict[str, Any]]:
    """Rows whose binary cells are views into Arrow's memory."""
    columns = {name: list(_cells(table.column(name))) for name in table.column_names}
    for index in range(table.num_rows):
        yield {name: cells[index] for name, cells in columns.items()}


def _cells(column: pa.ChunkedArray) -> Iterable[Any]:
    if pa.types.is_large_binary(column.type):
        return (cell.as_buffer() for cell in column)
    return list(column.to_pylist())
