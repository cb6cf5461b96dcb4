"""The archive's SQL names what the messages have and what the reader wants."""

from __future__ import annotations

import pytest

from flink_jobs.archive_tables import TABLES, ArchiveTable, insert_sql, sink_sql, source_sql
from include.contracts.events import StatusEvent
from include.contracts.feedback import Rating
from include.contracts.requests import GenerationRequest
from include.dataset import archive

MESSAGES = {"events": StatusEvent, "requests": GenerationRequest, "ratings": Rating}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_columns_are_fields_of_the_message_and_serve_the_reader(table: ArchiveTable) -> None:
    names = {name for name, _ in table.columns}
    assert names <= set(MESSAGES[table.name].model_fields)
    assert set(archive._COLUMNS[table.name]) <= names


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_each_table_goes_from_its_topics_to_a_folder_by_day(table: ArchiveTable) -> None:
    source, sink = source_sql(table, "broker:9092", "x."), sink_sql(table, "file:///a/")
    assert f"'topic' = '{';'.join(f'x.{topic}' for topic in table.topics)}'" in source
    assert f"'path' = 'file:///a/{table.name}'" in sink
    assert "PARTITIONED BY (`day`)" in sink
    assert insert_sql(table).startswith(f"INSERT INTO {table.name}_archive SELECT")
