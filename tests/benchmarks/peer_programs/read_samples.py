"""Writes a folder of images and captions in a peer's format, then reads an epoch at each line: ``read_samples.py PEER FOLDER OUTPUT``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

WORKERS = 2


def first(batch: list[Any]) -> list[Any]:
    return batch


def with_streaming(folder: Path, output: Path) -> Iterable[Any]:
    from streaming import MDSWriter, StreamingDataset

    class Arrays(StreamingDataset):
        def __getitem__(self, at: Any) -> Any:
            sample = super().__getitem__(at)
            return np.asarray(sample["image"]), sample["caption"]

    with MDSWriter(out=str(output), columns={"image": "jpeg", "caption": "str"}) as writer:
        for path in sorted(folder.glob("*.jpg")):
            from PIL import Image

            writer.write({"image": Image.open(path), "caption": path.with_suffix(".txt").read_text()})
    dataset = Arrays(local=str(output), shuffle=True, batch_size=32)
    return DataLoader(dataset, batch_size=32, num_workers=WORKERS, collate_fn=first, persistent_workers=True)


def with_webdataset(folder: Path, output: Path) -> Iterable[Any]:
    import webdataset

    output.mkdir()
    paths = sorted(folder.glob("*.jpg"))
    # A worker without a shard is an error.
    with webdataset.ShardWriter(str(output / "%05d.tar"), maxcount=min(512, len(paths) // WORKERS), verbose=0) as writer:
        for path in paths:
            writer.write({"__key__": path.stem, "jpg": path.read_bytes(), "txt": path.with_suffix(".txt").read_text()})
    shards = [str(path) for path in sorted(output.glob("*.tar"))]
    dataset = webdataset.WebDataset(shards, shardshuffle=len(shards)).shuffle(1000).decode("rgb8").to_tuple("jpg", "txt")
    return DataLoader(dataset, batch_size=32, num_workers=WORKERS, collate_fn=first, persistent_workers=True)


def epoch(batches: Iterable[Any]) -> float:
    """Samples a second."""
    started, count = time.perf_counter(), 0
    for batch in batches:
        for image, _ in batch:
            count += image.shape == (256, 256, 3)
    return count / (time.perf_counter() - started)


if __name__ == "__main__":
    name, source, target = sys.argv[1:]
    loader = {"streaming": with_streaming, "webdataset": with_webdataset}[name](Path(source), Path(target))
    for _ in sys.stdin:
        print("ANSWER " + json.dumps(epoch(loader)), flush=True)
