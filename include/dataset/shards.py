"""Planning and preparing shards: the work of a version cut into pieces that run side by side and are each done once."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from include.dataset.config import DatasetConfig
from include.dataset.files import digest_of, read_table, write_json, write_table
from include.dataset.sources import SourceItem, source_of
from include.dataset.stages import RejectedError, prepare_item

CODE_VERSION = 1  #: raised when the same input gives other shards, so that no shard of older code is taken over

_TEXTS = pa.list_(pa.string())
SAMPLE_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("image", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("caption", pa.string()),
        ("captions", _TEXTS),
    ]
    + [(name, pa.string()) for name in ("license", "author", "source", "sha256")]
)
QUARANTINE_SCHEMA = pa.schema([(name, pa.string()) for name in ("key", "path", "stage", "reason")])


@dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """One shard to prepare. Small, so that an orchestrator can pass it along; the list of files is at ``path``."""

    index: int
    count: int  #: source files
    path: str  #: JSON with the configuration and the items


@dataclass(frozen=True, kw_only=True)
class ShardResult:
    index: int
    samples: str  #: Parquet of the samples
    quarantine: str  #: Parquet of the rejected
    kept: int
    rejected: dict[str, int]  #: by stage
    seconds: float
    reused: bool = False  #: an earlier run had prepared it


def plan_shards(config: DatasetConfig, root: Path | str) -> list[ShardPlan]:
    """Lists the source and cuts it into shards; ``root`` is the directory that holds all datasets.

    Raises :class:`ValueError` when the source has no image, :class:`FileNotFoundError` when there is no such folder.
    """
    items = list(islice(source_of(config).items(), config.limit))
    if not items:
        raise ValueError(f"path: no images found in {config.path}; it should hold images with a .txt caption beside each")
    work = Path(root) / ".work" / _work_key(config, items)
    return [
        _write_plan(work, index, items[start : start + config.shard_size], config)
        for index, start in enumerate(range(0, len(items), config.shard_size))
    ]


def _work_key(config: DatasetConfig, items: list[SourceItem]) -> str:
    stats = [(path.stat().st_size, path.stat().st_mtime_ns) for path in (Path(item.path) for item in items)]
    return digest_of([CODE_VERSION, config.model_dump(mode="json"), [asdict(item) for item in items], stats])[:16]


def _write_plan(work: Path, index: int, items: list[SourceItem], config: DatasetConfig) -> ShardPlan:
    path = work / f"plan-{index:05d}.json"
    if not path.exists():
        write_json(path, {"config": config.model_dump(mode="json"), "items": [asdict(item) for item in items]})
    return ShardPlan(index=index, count=len(items), path=str(path))


def prepare_shard(plan: ShardPlan | dict[str, Any], progress: Callable[[str], None] = print) -> ShardResult:
    """Prepares one shard, or finds it prepared. Safe to repeat, and to run in several processes for different shards."""
    plan = plan if isinstance(plan, ShardPlan) else ShardPlan(**plan)
    done = Path(plan.path).with_name(f"result-{plan.index:05d}.json")
    if done.exists():
        return ShardResult(**{**json.loads(done.read_text()), "reused": True})
    started = time.monotonic()
    rows, rejects = _prepare(plan)
    samples, quarantine = (done.with_name(f"{kind}-{plan.index:05d}.parquet") for kind in ("samples", "quarantine"))
    write_table(samples, pa.Table.from_pylist(rows, SAMPLE_SCHEMA))
    write_table(quarantine, pa.Table.from_pylist(rejects, QUARANTINE_SCHEMA))
    rejected = dict(Counter(reject["stage"] for reject in rejects))
    seconds = round(time.monotonic() - started, 3)
    result = ShardResult(
        index=plan.index, samples=str(samples), quarantine=str(quarantine), kept=len(rows), rejected=rejected, seconds=seconds
    )
    write_json(done, asdict(result))
    progress(f"shard {plan.index}: {len(rows)} of {plan.count} kept in {seconds:.1f} s")
    return result


def _prepare(plan: ShardPlan) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    content = json.loads(Path(plan.path).read_text())
    config = DatasetConfig.model_validate(content["config"])
    rows, rejects = [], []
    for item in (SourceItem(**{**entry, "captions": tuple(entry["captions"])}) for entry in content["items"]):
        try:
            rows.append(prepare_item(item, config))
        except RejectedError as error:
            rejects.append({"key": item.key, "path": item.path, "stage": error.stage, "reason": error.reason})
    return rows, rejects


def plan_config(plan_or_result_path: str) -> DatasetConfig:
    """The configuration of the run that a plan or a result belongs to."""
    path = next(iter(sorted(Path(plan_or_result_path).parent.glob("plan-*.json"))))
    return DatasetConfig.model_validate(json.loads(path.read_text())["config"])


def samples_of(result: ShardResult) -> list[dict[str, Any]]:
    return read_table(Path(result.samples)).to_pylist()


def rejects_of(result: ShardResult) -> list[dict[str, Any]]:
    return read_table(Path(result.quarantine)).to_pylist()
