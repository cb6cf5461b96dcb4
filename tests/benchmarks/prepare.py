"""Images a second from PNG files of 512 px to shards of 256 px, beside img2dataset on the same files.

Both run as programs of their own with two processes, from start to end: interpreter, imports, listing, decoding, resizing, JPEG at quality
95, writing. Ours also finds near copies, keeps every caption and writes hashes and a report; img2dataset reads the files by ``file://``
addresses, without a network. Runs alternate; figures are medians.

``images_per_s``: ours. ``ratio``: over img2dataset's. ``images_per_cpu_s``: by the CPU time of all processes, which other load on the
machine moves less. ``peak_mb``: ours, greatest sum over its processes of proportional set sizes, 10^6
bytes. ``captions_kept``: share of the samples that have the caption they came with. ``peer`` has the same figures of img2dataset.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from tests.support.emoji_files import emoji_folder, linked
from tests.support.peers import PeerUnavailable, peer_python

SIZE, QUALITY = 256, 95
PEER = "img2dataset==1.47.0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4495)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    emoji_folder()
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as scratch:
        folder = linked(Path(scratch) / "images", arguments.images)
        print(json.dumps(compare(folder, Path(scratch), arguments.rounds)))


def compare(folder: Path, scratch: Path, rounds: int) -> dict[str, Any]:
    count = len(list(folder.glob("*.png")))
    ours: list[dict[str, float]] = []
    peers: list[dict[str, float]] = []
    absent = ""
    for turn in range(rounds):
        ours.append(run_ours(folder, scratch / f"ours-{turn}"))
        say(f"ours: {count / ours[-1]['seconds']:.0f} images/s, {ours[-1]['peak_mb']:.0f} MB")
        try:
            peers.append(run_peer(folder, scratch / f"peer-{turn}"))
            say(f"img2dataset: {count / peers[-1]['seconds']:.0f} images/s, {peers[-1]['peak_mb']:.0f} MB")
        except PeerUnavailable as error:
            absent = str(error)
    figures = summary(ours, count)
    peer = summary(peers, count) if peers else {"unavailable": absent}
    ratio = round(figures["images_per_s"] / peer["images_per_s"], 2) if peers else None
    return {**figures, "ratio": ratio, "captions_kept": captions_kept(scratch / "ours-0", folder), "images": count, "peer": peer}


def summary(runs: Sequence[dict[str, float]], count: int) -> dict[str, Any]:
    seconds = statistics.median(run["seconds"] for run in runs)
    cpu_s = statistics.median(run["cpu_s"] for run in runs)
    peak_mb = round(max(run["peak_mb"] for run in runs))
    return {"images_per_s": round(count / seconds, 1), "images_per_cpu_s": round(count / cpu_s, 1), "peak_mb": peak_mb}


def run_ours(folder: Path, root: Path) -> dict[str, float]:
    settings = {"image_format": "jpeg", "quality": str(QUALITY), "near_duplicates": "group", "shard_size": "256"}
    more = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    command = [
        sys.executable,
        "-m",
        "include.dataset",
        "--root",
        str(root),
        "--folder",
        str(folder),
        "--name",
        "bench",
        "--size",
        str(SIZE),
    ]
    return measured([*command, *more], {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "2"})


def run_peer(folder: Path, output: Path) -> dict[str, float]:
    table = output.with_suffix(".csv")
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("url", "caption"))
        writer.writerows((path.resolve().as_uri(), path.with_suffix(".txt").read_text().strip()) for path in sorted(folder.glob("*.png")))
    python = peer_python(PEER)
    program = Path(__file__).with_name("peer_programs") / "run_img2dataset.py"
    found = measured([str(python), str(program), str(table), str(output), str(SIZE), str(QUALITY)], {"NO_ALBUMENTATIONS_UPDATE": "1"})
    shutil.rmtree(output, ignore_errors=True)
    return found


def measured(command: Sequence[str], environment: dict[str, str]) -> dict[str, float]:
    """Wall time and peak memory of a program with all its processes."""
    with tempfile.TemporaryFile("w+") as errors:
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env={**os.environ, **environment})
        peak, ended, status, usage = 0.0, 0, 0, None
        while not ended:
            peak = max(peak, memory_of(process.pid))
            time.sleep(0.2)
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        if process.returncode:
            raise PeerUnavailable(f"status {process.returncode}: {errors.read()[-500:]}")
    assert usage
    return {"seconds": seconds, "peak_mb": peak / 1e6, "cpu_s": usage.ru_utime + usage.ru_stime}


def memory_of(pid: int) -> float:
    """Proportional set size of a process and its descendants, in bytes: what they share is counted once."""
    total = 0.0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            total += process.memory_full_info().pss
    except psutil.Error:
        pass  # one of them has just ended
    return total


def captions_kept(root: Path, folder: Path) -> float:
    rows = [row for path in root.glob("bench-*/*-0*.parquet") for row in pq.read_table(path, columns=["key", "captions"]).to_pylist()]
    kept = sum((folder / row["key"]).with_suffix(".txt").read_text().strip() in row["captions"] for row in rows)
    return round(kept / len(rows), 4)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
