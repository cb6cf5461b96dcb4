"""OpenMoji as people have images: PNG files of 512 px with a caption beside each, drawn once and kept."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import resvg_py

from include.dataset.sources import OpenMojiSource, SourceItem
from tests.support.peers import CACHE

SIDE = 512


def emoji_folder() -> Path:
    """All 4,495; drawing them takes about half a minute on two cores."""
    folder = CACHE / "data" / f"openmoji-{SIDE}"
    folder.mkdir(parents=True, exist_ok=True)
    missing = [item for item in OpenMojiSource().items() if not (folder / f"{item.key}.txt").exists()]
    if missing:
        print(f"drawing {len(missing)} emoji at {SIDE} px into {folder}", file=sys.stderr, flush=True)
        with ProcessPoolExecutor(2) as pool:
            list(pool.map(_draw, missing, [folder] * len(missing), chunksize=32))
    return folder


def linked(folder: Path, count: int) -> Path:
    """A folder with links to the first so many images and their captions."""
    folder.mkdir(parents=True)
    for path in sorted(emoji_folder().glob("*.png"))[:count]:
        add(folder, path)
    return folder


def add(folder: Path, image: Path) -> None:
    for path in (image, image.with_suffix(".txt")):
        (folder / path.name).symlink_to(path)


def _draw(item: SourceItem, folder: Path) -> None:
    svg = Path(item.path).read_text(encoding="utf-8")
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIDE, height=SIDE, skip_system_fonts=True))
    (folder / f"{item.key}.png").write_bytes(png)
    (folder / f"{item.key}.txt").write_text(item.captions[0] + "\n", encoding="utf-8")
