"""The feedback archive: terminal events, prompts and ratings, from Kafka to Parquet files by day.

Submitted as the router is, with the jars of ``.jars/parquet`` (``make jars``). A file becomes visible when a checkpoint completes. After a
restart without its checkpoint the job goes on from the consumer group's offsets and may write rows again that were written shortly before;
readers take each request once (``include/dataset/archive.py``).
"""

from __future__ import annotations

import argparse

from pyflink.common import Configuration
from pyflink.table import EnvironmentSettings, StatementSet, TableEnvironment

from flink_jobs.archive_tables import TABLES, insert_sql, sink_sql, source_sql
from flink_jobs.submission import archive_configuration
from include.config import Settings, settings

JOB_NAME = "archive_events"


def define_workflow(tables: TableEnvironment, config: Settings, place: str) -> StatementSet:
    """One Kafka source and one Parquet sink for each table of the archive."""
    statements = tables.create_statement_set()
    for table in TABLES:
        tables.execute_sql(source_sql(table, config.bootstrap, config.topic_prefix))
        tables.execute_sql(sink_sql(table, place))
        statements.add_insert_sql(insert_sql(table))
    return statements


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--place", default="", help="folder as a file:// address; without it, HOME/archive")
    parser.add_argument("--checkpoint-interval", default="60s", help="how often files become visible")
    arguments = parser.parse_args()
    config = settings()
    configuration = Configuration()
    for key, value in archive_configuration(config, arguments.checkpoint_interval).items():
        configuration.set_string(key, value)
    configuration.set_string("pipeline.name", JOB_NAME)
    tables = TableEnvironment.create(EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(configuration).build())
    define_workflow(tables, config, arguments.place or (config.home.resolve() / "archive").as_uri()).execute()


if __name__ == "__main__":
    main()
