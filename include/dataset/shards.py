"""Planning and preparing shards: the work of a version cut into pieces that run side by side and are each done once."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from include.dataset.cache import CODE_VERSION, StageCache, work_of, write_part
from include.dataset.config import DatasetConfig
from include.dataset.files import digest_of, read_table, rows_of, table_digest, write_json, write_table
from include.dataset.sources import SourceItem, source_of
from include.dataset.stages import IMAGE_STAGES, run_stages

BATCH = 32  #: images that go through the stages together, which bounds a shard's memory
ITEMS, CONFIG = "items.parquet", "config.json"
PROGRESS_S = 10.0

_ITEM_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("path", pa.string()),
        ("captions", pa.list_(pa.string())),
        ("license", pa.string()),
        ("author", pa.string()),
        ("source", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("problem", pa.string()),
        ("work", pa.string()),
    ]
)
QUARANTINE_SCHEMA = pa.schema([(name, pa.string()) for name in ("key", "path", "stage", "reason")])


@dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """One shard to prepare. Small, so that an orchestrator can pass it along; what to prepare is at ``path``."""

    index: int
    count: int  #: images to prepare; of the only shard, 0 where all were prepared before
    path: str  #: Parquet of the items of this shard


@dataclass(frozen=True, kw_only=True)
class ShardResult:
    index: int
    run: str  #: directory of the run, which :func:`include.dataset.versions.publish_version` goes on from
    kept: int
    rejected: dict[str, int]  #: by stage
    seconds: float
    reused: bool = False  #: an earlier run had prepared it


def plan_shards(config: DatasetConfig, root: Path | str) -> list[ShardPlan]:
    """Lists the source and cuts what is new in it into shards; ``root`` is the directory that holds all datasets.

    Raises :class:`ValueError` when the source has no image, :class:`FileNotFoundError` when there is no such folder.
    """
    rows = [_row(item) for item in islice(source_of(config, Path(root)).items(), config.limit)]
    if not rows:
        raise ValueError(f"path: no images found in {config.path}; it should hold images with a .txt caption beside each")
    items = pa.Table.from_pylist(rows, _ITEM_SCHEMA)
    content = config.model_dump(mode="json")
    run = Path(root) / ".work" / digest_of([CODE_VERSION, content, table_digest(items)])[:16]
    if not (run / CONFIG).exists():
        write_table(run / ITEMS, items)
        write_json(run / CONFIG, content)
    done = StageCache(Path(root), config).done()
    missing = [row for row in rows if row["work"] not in done and not row["problem"]]
    starts = range(0, len(missing), config.shard_size) or (0,)
    return [_write_plan(run, index, missing[start : start + config.shard_size]) for index, start in enumerate(starts)]


def _row(item: SourceItem) -> dict[str, Any]:
    return {**vars(item), "captions": list(item.captions), "work": work_of(item)}


def _write_plan(run: Path, index: int, rows: list[dict[str, Any]]) -> ShardPlan:
    path = run / f"shard-{digest_of([row['work'] for row in rows])[:16]}.parquet"
    if not path.exists():
        write_table(path, pa.Table.from_pylist(rows, _ITEM_SCHEMA))
    return ShardPlan(index=index, count=len(rows), path=str(path))


def prepare_shard(plan: ShardPlan | dict[str, Any], progress: Callable[[str], None] = print) -> ShardResult:
    """Prepares one shard, or finds it prepared. Safe to repeat, and to run in several processes for different shards."""
    plan = plan if isinstance(plan, ShardPlan) else ShardPlan(**plan)
    path = Path(plan.path)
    done = path.with_suffix(".json")
    if done.exists():
        return ShardResult(**{**json.loads(done.read_text()), "index": plan.index, "reused": True})
    started = time.monotonic()
    rejects: list[dict[str, Any]] = []
    kept = 0
    if plan.count:
        items = read_table(path)
        config = run_config(path.parent)
        part = StageCache(path.parents[2], config).part(items["work"].to_pylist())
        kept, rejects = write_part(part, _batches(items, config, plan, progress))
        write_json(path.with_suffix(".rejects.json"), rejects)
    seconds = round(time.monotonic() - started, 3)
    rejected = dict(Counter(reject["stage"] for reject in rejects))
    result = ShardResult(index=plan.index, run=str(path.parent), kept=kept, rejected=rejected, seconds=seconds)
    write_json(done, asdict(result))
    progress(f"shard {plan.index}: {kept} of {plan.count} kept in {seconds:.1f} s")
    return result


def _batches(
    items: pa.Table, config: DatasetConfig, plan: ShardPlan, progress: Callable[[str], None]
) -> Iterator[tuple[pa.Table, pa.Table]]:
    said = started = time.monotonic()
    for start in range(0, items.num_rows, BATCH):
        batch = items.select(["work", "path", "offset", "length"]).slice(start, BATCH)
        staged = run_stages(batch, IMAGE_STAGES, config)
        yield staged.kept, staged.rejected
        if time.monotonic() - said > PROGRESS_S:
            said, done = time.monotonic(), start + batch.num_rows
            left = (items.num_rows - done) * (said - started) / done
            progress(f"shard {plan.index}: {done} of {items.num_rows}, {left:.0f} s left")


def run_config(run: Path) -> DatasetConfig:
    return DatasetConfig.model_validate(json.loads((run / CONFIG).read_text()))


def run_items(run: Path) -> list[dict[str, Any]]:
    """Every item of the run's source in the order of the keys, those that were prepared by earlier runs included."""
    return rows_of(read_table(run / ITEMS))


def unread(run: Path) -> dict[str, dict[str, Any]]:
    """Rejects of this run by work, those included that the cache doesn't keep because another day they may be readable."""
    rows = [row for path in run.glob("shard-*.rejects.json") for row in json.loads(path.read_text())]
    return {row["work"]: row for row in rows}
