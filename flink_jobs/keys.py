"""Keyed streams without a Python step of their own."""

from __future__ import annotations

from pyflink.common import TypeInformation, Types
from pyflink.datastream import DataStream, KeyedStream
from pyflink.java_gateway import get_gateway


def keyed_rows(rows: DataStream, value_type: TypeInformation) -> KeyedStream:
    """Rows of (string key, value), keyed by their first field.

    ``DataStream.key_by`` makes such rows itself, behind a union in a Python task of its own, and between two tasks a message waits for up
    to the buffer timeout. Whoever has a Python step there anyway makes them in passing.
    """
    selector = get_gateway().jvm.KeyByKeySelector()
    keyed = rows._j_data_stream.keyBy(selector, Types.ROW([Types.STRING()]).get_java_type_info())
    return KeyedStream(keyed, value_type, rows)
