"""Rows made and taken apart by Flink's SQL, in the JVM: a message's way in and out of Python costs more than deciding on it."""

from __future__ import annotations

from collections.abc import Iterable

from pyflink.common import Types
from pyflink.datastream import DataStream
from pyflink.table import StreamTableEnvironment

ROW_OF_TEXTS = Types.ROW([Types.STRING(), Types.STRING()])

#: What follows the letter unless the message is null.
PRESENT = "."
#: Between the messages of one text, and between a message's topic and its content. JSON has neither unescaped.
MESSAGES, FIELDS = "\x1e", "\x1f"


def tag(tables: StreamTableEnvironment, cell: str, stream: DataStream, letter: str) -> DataStream:
    """Rows of cell and text: the letter alone for a null message, else the letter, a mark and the message."""
    texts = tables.from_data_stream(stream).alias("message")
    tagged = f"CASE WHEN message IS NULL THEN '{letter}' ELSE '{letter}{PRESENT}' || message END"
    query = f"SELECT CAST('{cell}' AS STRING) AS cell, {tagged} AS text FROM {texts}"
    return tables.to_append_stream(tables.sql_query(query), ROW_OF_TEXTS)


def untag(tagged: str) -> tuple[str, str | None]:
    """The letter and the message that :func:`tag` made a text of."""
    return tagged[0], tagged[1 + len(PRESENT) :] if len(tagged) > 1 else None


def join(messages: Iterable[tuple[str, str]]) -> str:
    """The text of topics and messages that :func:`split` takes apart; empty where there are none."""
    return MESSAGES.join([f"{topic}{FIELDS}{message}" for topic, message in messages])


def split(tables: StreamTableEnvironment, decided: DataStream) -> DataStream:
    """Rows of topic and message, from texts that hold any number of them."""
    texts = tables.from_data_stream(decided).alias("messages")
    query = (
        f"SELECT SPLIT_INDEX(message, '{FIELDS}', 0) AS topic, SPLIT_INDEX(message, '{FIELDS}', 1) AS content "
        f"FROM {texts} CROSS JOIN UNNEST(SPLIT(messages, '{MESSAGES}')) AS each_one (message)"
    )
    return tables.to_append_stream(tables.sql_query(query), ROW_OF_TEXTS)
