"""Stage ``read``: an item's bytes."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from include.dataset.config import DatasetConfig
from include.dataset.stages.batches import Staged, each_row
from include.dataset.stages.rejection import RejectedError
from include.dataset.trees import PlaceUnavailableError, read_range

READ = "read"


def read_files(table: pa.Table, config: DatasetConfig) -> Staged:
    """Adds ``data``. Raises :class:`PlaceUnavailableError` where the fault is the place's and not the file's."""
    return each_row(table, lambda row: {"data": read_item(row, config)}, adds=[("data", pa.large_binary())])


def read_item(row: dict[str, Any], config: DatasetConfig) -> bytes:
    length = row["length"]
    if length is not None and length > config.max_file_bytes:
        raise RejectedError(READ, f"the file has {length} bytes; max_file_bytes is {config.max_file_bytes}")
    try:
        # One byte more than allowed tells that there is more.
        data = read_range(row["path"], row["offset"], config.max_file_bytes + 1 if length is None else length)
    except PlaceUnavailableError:
        raise
    except OSError as error:
        raise RejectedError(READ, f"can't be read: {error.strerror or error}") from error
    if not data:
        raise RejectedError(READ, "the file is empty")
    if len(data) > config.max_file_bytes:
        raise RejectedError(READ, f"the file has more than {config.max_file_bytes} bytes, which is max_file_bytes")
    if length is not None and len(data) < length:
        raise RejectedError(READ, f"the tar ends after {len(data)} of the {length} bytes")
    return data
