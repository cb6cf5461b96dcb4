"""The images that the page shows, copied beside it so that the folder can be carried away."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from include.contracts.events import ImageResult
from include.dataset.loader import load_split
from include.dataset.report import evenly
from include.demo.judging import Verdict
from include.demo.outcome import Outcome
from include.storage import ObjectStore, open_store

SHEET_COLUMNS, SHEET_ROWS = 20, 8


def image_name(image: ImageResult) -> str:
    return image.key.removeprefix("images/").replace("/", "-")


def write_pictures(outcome: Outcome, out: Path) -> dict[str, Any]:
    """Writes whatever there is; returns the paths, relative to the page, of those that not every demo has."""
    folder = out / "images"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _write_traffic(outcome, folder)
    _write_shots(outcome, open_store(outcome.settings), folder)
    _write_workers(outcome, folder)
    return {
        "sheet": _write_sheet(outcome, folder),
        "dataset_report": _copy_page(outcome.dataset_facts().get("report"), out / "dataset.html"),
        "compression_report": _copy_page(outcome.sweep.result["report"] if outcome.sweep else None, out / "compression.html"),
        "cards": _copy_cards(outcome, out),
        "grids": _copy_grids(outcome, folder),
    }


def _write_traffic(outcome: Outcome, folder: Path) -> None:
    _write_images(outcome.traffic.good() if outcome.traffic else (), folder)


def _write_shots(outcome: Outcome, store: ObjectStore, folder: Path) -> None:
    for shot in outcome.rollback.shots if outcome.rollback else ():
        for image in shot.event.images:
            (folder / image_name(image)).write_bytes(store.get(image.key))


def _write_workers(outcome: Outcome, folder: Path) -> None:
    if outcome.workers is None:
        return
    for frame in outcome.workers.frames:
        (folder / frame.name).write_bytes(frame.data)
    _write_images((story.verdict for story in outcome.workers.stories), folder)


def _write_images(verdicts: Iterable[Verdict], folder: Path) -> None:
    for verdict in verdicts:
        for image, data in zip(verdict.event.images if verdict.event else (), verdict.images, strict=False):
            (folder / image_name(image)).write_bytes(data)


def _write_sheet(outcome: Outcome, folder: Path) -> str | None:
    """A contact sheet of the training set."""
    manifest = outcome.dataset_facts().get("manifest")
    if not manifest:
        return None
    images = evenly(list(load_split(manifest, "train").images), SHEET_COLUMNS * SHEET_ROWS)
    side = images[0].shape[0]
    rows = -(-len(images) // SHEET_COLUMNS)
    sheet = Image.new("RGB", (SHEET_COLUMNS * side, rows * side), "white")
    for index, pixels in enumerate(images):
        sheet.paste(Image.fromarray(pixels), (index % SHEET_COLUMNS * side, index // SHEET_COLUMNS * side))
    sheet.save(folder / "dataset.png", optimize=True)
    return "images/dataset.png"


def _copy_page(page: str | None, to: Path) -> str | None:
    """A page that needs nothing else."""
    if not page or not Path(page).is_file():
        return None
    shutil.copyfile(page, to)
    return to.name


def _copy_cards(outcome: Outcome, out: Path) -> dict[str, str]:
    """The model card of each version."""
    cards = {found.version: found.evaluation.result.get("card") for found in outcome.versions}
    copied = {version: _copy_page(card, out / f"model-card-{version}.html") for version, card in cards.items()}
    return {version: name for version, name in copied.items() if name}


def _copy_grids(outcome: Outcome, folder: Path) -> dict[str, str]:
    """The sample grid of each version's evaluation."""
    grids = {}
    for found in outcome.versions:
        source = Path(str(found.evaluation.result.get("grid", "")))
        if source.is_file():
            name = f"version-{found.version}.png"
            shutil.copyfile(source, folder / name)
            grids[found.version] = f"images/{name}"
    return grids
