"""Which prepared images become samples of a version: everything that needs no pixels, so that changing a limit decodes nothing again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from include.dataset.authors import excluded_authors, is_by
from include.dataset.cache import ImageReader, StageCache
from include.dataset.captions import clean_captions
from include.dataset.config import DatasetConfig
from include.dataset.duplicates import drop_near_duplicates, group_near_duplicates, merge_duplicates, without_copies_of
from include.dataset.hooks import find_hook
from include.dataset.near_state import near_pairs
from include.dataset.shards import run_items, unread
from include.dataset.splits import split_of
from include.dataset.stages import RejectedError

Row = dict[str, Any]
#: What a row must still have when a version is written: the rest of a sample is in the cache.
IDENTITY = ("key", "sha256", "captions", "license", "author", "source", "split")


@dataclass
class Selection:
    """Rows on their way into a version, and the ones that fell out of it."""

    kept: list[Row]
    rejects: list[Row] = field(default_factory=list)
    near: list[tuple[str, str]] = field(default_factory=list)  #: keys of near copies

    def keep_if(self, judge: Callable[[Row], None]) -> None:
        """``judge`` raises :class:`RejectedError` for rows that can't stay, and may complete those that can."""
        kept = []
        for row in self.kept:
            try:
                judge(row)
                kept.append(row)
            except RejectedError as error:
                self.rejects.append(rejected(row, error.stage, error.reason))
        self.kept = kept

    def drop(self, rejects: Sequence[Row]) -> None:
        gone = {row["key"] for row in rejects}
        self.kept = [row for row in self.kept if row["key"] not in gone]
        self.rejects += rejects


def rejected(row: Row, stage: str, reason: str) -> Row:
    """A row of the quarantine table."""
    return {"key": row["key"], "path": row.get("path") or row["source"], "stage": stage, "reason": reason}


def select(run: Path, root: Path, config: DatasetConfig, reader: ImageReader) -> Selection:
    """The samples of a run's version in the order of their keys, each with its near-duplicate ``group``.

    Raises :class:`LookupError` for an unknown version in ``against``, :class:`RuntimeError` where a shard of the run is missing.
    """
    selection = _prepared(run, root, config)
    excluded = excluded_authors(root)
    selection.keep_if(lambda row: _check_origin(row, config, excluded))
    selection.keep_if(lambda row: _check_image(row, config))
    selection.keep_if(lambda row: _set_captions(row, config))
    if config.captioner:
        _add_captions(selection.kept, config, reader)
    selection.drop(merge_duplicates(selection.kept))
    pairs = _near_pairs(selection.kept, root, config, reader)
    selection.near = [(selection.kept[one]["key"], selection.kept[other]["key"]) for one, other in pairs]
    group_near_duplicates(selection.kept, pairs)
    if config.drops_near_duplicates:
        selection.drop(drop_near_duplicates(selection.kept, pairs))
    if config.against:
        selection.drop(without_copies_of(selection.kept, config.against, root, reader))
    selection.rejects.sort(key=lambda row: (row["key"], row["stage"]))
    return selection


def _prepared(run: Path, root: Path, config: DatasetConfig) -> Selection:
    items = run_items(run)
    wanted = {row["work"] for row in items}
    cache = StageCache(root, config)
    records = {**cache.records(wanted), **unread(run)}
    selection = Selection(kept=[])
    for item in items:
        if item["problem"]:
            selection.rejects.append(rejected(item, "list", item["problem"]))
        elif (found := records.get(item["work"])) is None:
            raise RuntimeError(f"{item['key']} has not been prepared: a shard of {run} is missing; run prepare_shard for each plan")
        elif found["stage"]:
            selection.rejects.append(rejected(item, found["stage"], found["reason"]))
        else:
            selection.kept.append({**item, **found})
    return selection


def _near_pairs(rows: list[Row], root: Path, config: DatasetConfig, reader: ImageReader) -> list[tuple[int, int]]:
    names, places = [row["picture"] for row in rows], [row["place"] for row in rows]
    held_out = [index for index, row in enumerate(rows) if split_of(row["sha256"], config) != "train"]
    return near_pairs(names, lambda some: reader.pictures([places[index] for index in some]), root, config.name, held_out)


def _check_origin(row: Row, config: DatasetConfig, excluded: frozenset[str]) -> None:
    row["license"] = row["license"] or config.license
    row["author"] = row["author"] or config.author
    if any(is_by(row["author"], name) for name in excluded):
        raise RejectedError("author", "the author's images are removed from every dataset")
    if config.licenses and not any(fnmatchcase(row["license"].lower(), taken.lower()) for taken in config.licenses):
        raise RejectedError("license", f"{row['license'] or 'no licence'} is not among licenses: {', '.join(config.licenses)}")


def _check_image(row: Row, config: DatasetConfig) -> None:
    if row["entropy"] < config.min_entropy:
        raise RejectedError("filter", f"has {row['entropy']:.2f} bits a pixel; min_entropy is {config.min_entropy:g}")
    if row["sharpness"] < config.min_sharpness:
        raise RejectedError("filter", f"is blurred: sharpness {row['sharpness']:.1f}; min_sharpness is {config.min_sharpness:g}")
    if row["score"] > config.max_score:
        raise RejectedError("filter", f"{config.image_classifier} gives it {row['score']:.2f}; max_score is {config.max_score:g}")


def _set_captions(row: Row, config: DatasetConfig) -> None:
    row["captions"] = clean_captions(row["captions"], config)


def _add_captions(rows: list[Row], config: DatasetConfig, reader: ImageReader) -> None:
    """The captioner takes fingerprints (N, 32, 32, 3) uint8 and the captions, and returns a list of further captions for each."""
    captioner = find_hook("atelier.captioners", config.captioner)
    pictures = reader.pictures([row["place"] for row in rows])
    for row, more in zip(rows, captioner(pictures, [row["captions"] for row in rows]), strict=True):
        row["captions"] = clean_captions([*row["captions"], *more], config)
