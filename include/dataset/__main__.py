"""Prepares and publishes a dataset version; prints the path of its manifest, and progress on stderr."""

from __future__ import annotations

import argparse
import gc
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from include.dataset.config import DatasetConfig
from include.dataset.shards import ShardResult, plan_shards, prepare_shard
from include.dataset.versions import DatasetVersion, publish_version


def prepare_dataset(config: DatasetConfig, root: Path, processes: int = 2) -> DatasetVersion:
    # What the imports made is never garbage; looking through it costs time, and after a fork memory.
    gc.freeze()
    plans = plan_shards(config, root)
    if len(plans) == 1 or processes == 1:
        return publish_version([prepare_shard(plan, _to_stderr) for plan in plans], root)
    with ProcessPoolExecutor(min(processes, len(plans)), mp_context=get_context("fork")) as pool:
        results: list[ShardResult] = list(pool.map(partial(prepare_shard, progress=_to_stderr), plans))
    return publish_version(results, root)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m include.dataset", description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="directory that holds the datasets")
    parser.add_argument("--folder", help="folder or s3://bucket/prefix of images with captions; OpenMoji without it")
    parser.add_argument("--name", default="openmoji")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="any other field of the configuration")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    source = "folder" if arguments.folder else "openmoji"
    more = dict(setting.split("=", 1) for setting in arguments.set)
    config = DatasetConfig.model_validate(
        {"name": arguments.name, "source": source, "path": arguments.folder, "size": arguments.size} | more
    )
    version = prepare_dataset(config, arguments.root, arguments.processes)
    _to_stderr(f"{version.version}: {version.counts}, rejected {sum(version.rejected.values())}")
    print(version.manifest)


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
