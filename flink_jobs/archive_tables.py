"""The archive's tables as SQL: what is read from which topic, and what is kept of it. ``include/dataset/archive.py`` reads the result."""

from __future__ import annotations

from dataclasses import dataclass

from include.contracts import topics

_IMAGES = "ARRAY<ROW<`index` INT, `key` STRING, `sha256` STRING, `width` INT, `height` INT, `seed` BIGINT>>"
_IDS = (("request_id", "STRING"), ("tenant", "STRING"))


@dataclass(frozen=True, kw_only=True)
class ArchiveTable:
    name: str  #: the folder in the archive
    topics: tuple[str, ...]  #: without prefix
    columns: tuple[tuple[str, str], ...]  #: name and SQL type, as in the message
    seconds: str = "`at`"  #: SQL of the time, in seconds since 1970, whose day is the partition
    where: str = "TRUE"


TABLES = (
    ArchiveTable(
        name="events",
        topics=(topics.EVENTS,),
        columns=(
            *_IDS,
            ("event_id", "STRING"),
            ("state", "STRING"),
            ("at", "DOUBLE"),
            ("lane", "STRING"),
            ("model", "STRING"),
            ("model_version", "STRING"),
            ("waited_s", "DOUBLE"),
            ("images", _IMAGES),
        ),
        where="`state` IN ('Completed', 'Failed', 'Refused', 'Cancelled', 'Expired')",
    ),
    ArchiveTable(
        name="requests",
        topics=(topics.REALTIME, topics.BATCH),
        columns=(*_IDS, ("prompt", "STRING"), ("negative_prompt", "STRING"), ("model", "STRING")),
        seconds="UNIX_TIMESTAMP()",
        where="`request_id` IS NOT NULL AND `prompt` IS NOT NULL",
    ),
    ArchiveTable(
        name="ratings",
        topics=(topics.RATINGS,),
        columns=(*_IDS, ("rating", "INT"), ("by_whom", "STRING"), ("at", "DOUBLE")),
        where="`request_id` IS NOT NULL AND `rating` BETWEEN 1 AND 5",
    ),
)


def source_sql(table: ArchiveTable, bootstrap: str, prefix: str) -> str:
    """Messages that are not JSON are passed over: the router has put them into the dead letters."""
    return _create(
        f"{table.name}_topic",
        table.columns,
        {
            "connector": "kafka",
            "topic": ";".join(prefix + topic for topic in table.topics),
            "properties.bootstrap.servers": bootstrap,
            "properties.group.id": f"{prefix}archive",
            "properties.auto.offset.reset": "earliest",
            "scan.startup.mode": "group-offsets",
            "format": "json",
            "json.ignore-parse-errors": "true",
        },
    )


def sink_sql(table: ArchiveTable, place: str) -> str:
    columns = (*table.columns, ("day", "STRING"))
    options = {"connector": "filesystem", "path": f"{place.rstrip('/')}/{table.name}", "format": "parquet", "parquet.compression": "GZIP"}
    return _create(f"{table.name}_archive", columns, options, "PARTITIONED BY (`day`) ")


def insert_sql(table: ArchiveTable) -> str:
    names = ", ".join(f"`{name}`" for name, _ in table.columns)
    day = f"DATE_FORMAT(TO_TIMESTAMP_LTZ(CAST({table.seconds} * 1000 AS BIGINT), 3), 'yyyy-MM-dd')"
    return f"INSERT INTO {table.name}_archive SELECT {names}, {day} FROM {table.name}_topic WHERE {table.where}"


def _create(name: str, columns: tuple[tuple[str, str], ...], options: dict[str, str], partition: str = "") -> str:
    fields = ", ".join(f"`{column}` {kind}" for column, kind in columns)
    settings = ", ".join(f"'{key}' = '{value}'" for key, value in options.items())
    return f"CREATE TEMPORARY TABLE {name} ({fields}) {partition}WITH ({settings})"
