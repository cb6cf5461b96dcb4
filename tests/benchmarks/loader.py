"""Samples a second from prepared shards to decoded arrays, beside MosaicML Streaming and webdataset.

All read the same JPEG bytes of 256 px, shuffled, decode with Pillow to uint8 arrays and hand them over one by one in the consumer's
process: ours with two threads, the others with a PyTorch DataLoader of two processes, which live across epochs. The first epoch of each
warms up;
then epochs alternate. Figures are medians.

``ratios``: ours over the peer's samples a second. ``same_order``: our order with one and with two workers is the same. ``resume_s``: from
opening the version to the first sample in the middle of an epoch, the greatest of several.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from include.dataset.__main__ import prepare_dataset
from include.dataset.config import DatasetConfig
from include.dataset.loader import SampleStream
from tests.support.emoji_files import emoji_folder, linked
from tests.support.peers import PeerProcess, PeerUnavailable, peer_python

PEERS = ("streaming", "webdataset")
REQUIREMENTS = ("mosaicml-streaming==0.13.0", "webdataset==1.0.2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    emoji_folder()
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as scratch, ExitStack() as stack:
        manifest = prepared(Path(scratch), arguments.images)
        peers, absent = started(stack, Path(scratch), manifest)
        print(json.dumps({**compare(manifest, peers, arguments.rounds), **absent, "images": len(SampleStream(manifest))}))


def prepared(scratch: Path, count: int) -> str:
    folder = linked(scratch / "images", count)
    config = DatasetConfig(
        name="bench", source="folder", path=folder, size=256, image_format="jpeg", near_duplicates="group", validation=0.0, shard_size=256
    )
    return prepare_dataset(config, scratch / "root").manifest


def started(stack: ExitStack, scratch: Path, manifest: str) -> tuple[dict[str, PeerProcess], dict[str, str]]:
    """Each peer with the same bytes in its own format."""
    try:
        python = peer_python(*REQUIREMENTS)
    except PeerUnavailable as error:
        return {}, {"peers_unavailable": str(error)}
    raw = scratch / "raw"
    raw.mkdir()
    for path in sorted(Path(manifest).parent.glob("train-*.parquet")):
        for row in pq.read_table(path, columns=["key", "image", "caption"]).to_pylist():
            (raw / f"{row['key'].removesuffix('.png')}.jpg").write_bytes(row["image"])
            (raw / f"{row['key'].removesuffix('.png')}.txt").write_text(row["caption"])
    program = Path(__file__).with_name("peer_programs") / "read_samples.py"
    return {name: stack.enter_context(PeerProcess(python, program, name, str(raw), str(scratch / name))) for name in PEERS}, {}


def compare(manifest: str, peers: dict[str, PeerProcess], rounds: int) -> dict[str, Any]:
    rates: dict[str, list[float]] = {name: [] for name in ("ours", *peers)}
    for turn in range(rounds + 1):
        for name in rates:
            rate = our_rate(manifest, turn) if name == "ours" else float(peers[name].ask("epoch"))
            print(f"{name}: {rate:.0f} samples/s", file=sys.stderr, flush=True)
            if turn:
                rates[name].append(rate)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    return {
        "ratios": {name: round(medians["ours"] / medians[name], 2) for name in peers},
        "samples_per_s": {name: round(rate) for name, rate in medians.items()},
        "same_order": order(manifest, 1) == order(manifest, 2),
        "resume_s": round(max(resume_s(manifest, part) for part in (0.25, 0.5, 0.99)), 3),
    }


def our_rate(manifest: str, epoch: int) -> float:
    started = time.perf_counter()
    count = sum(sample.pixels.shape == (256, 256, 3) for sample in SampleStream(manifest, workers=2).epoch(epoch))
    return count / (time.perf_counter() - started)


def order(manifest: str, workers: int) -> list[str]:
    return [sample.key for sample in SampleStream(manifest, seed=3, workers=workers).epoch(1)]


def resume_s(manifest: str, part: float) -> float:
    started = time.perf_counter()
    stream = SampleStream(manifest, seed=3)
    next(stream.epoch(1, int(len(stream) * part)))
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
