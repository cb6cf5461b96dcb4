"""A dataset version of coloured squares, written as training reads it."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "black", "grey")


def write_tiny_dataset(directory: Path, counts: dict[str, int], sizes: Sequence[tuple[int, int]] = ((16, 16),)) -> Path:
    """The manifest of so many samples by split, whose sizes, (width, height), take turns."""
    directory.mkdir(parents=True)
    files = {split: _write_split(directory, split, count, sizes) for split, count in counts.items() if count}
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    content = {"kind": "atelier-dataset", "digest": digest, "size": sizes[0][0], "counts": counts, "files": files}
    manifest = directory / "manifest.json"
    manifest.write_text(json.dumps({"schema_version": 1, "name": "squares", "config": {"source": "folder"}, **content}))
    return manifest


def _write_split(directory: Path, split: str, count: int, sizes: Sequence[tuple[int, int]]) -> list[dict[str, object]]:
    """A file for each size."""
    rows = [(sizes[index % len(sizes)], _sample(f"{split}-{index}", index, *sizes[index % len(sizes)])) for index in range(count)]
    found = sorted({size for size, _ in rows})
    return [_write_file(directory / f"{split}-{number:05d}.parquet", size, rows) for number, size in enumerate(found)]


def _write_file(path: Path, size: tuple[int, int], rows: list[tuple[tuple[int, int], dict[str, object]]]) -> dict[str, object]:
    table = pa.Table.from_pylist([row for of, row in rows if of == size])
    pq.write_table(table, path, row_group_size=64)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"file": path.name, "rows": len(table), "sha256": digest, "width": size[0], "height": size[1]}


def _sample(key: str, index: int, width: int, height: int) -> dict[str, object]:
    colour, share = COLOURS[index % len(COLOURS)], 2 + index // len(COLOURS) % 5
    image = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(image).rectangle((1, 1, width * share // 8, height * share // 8), fill=colour)
    data = io.BytesIO()
    image.save(data, "PNG")
    return {"key": key, "image": data.getvalue(), "captions": [f"{colour} square of {share}", f"{colour} box"]}
