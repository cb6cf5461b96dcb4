"""Dataset versions, and what preparing them left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from include.dataset.versions import MANIFEST
from include.lifecycle.datasets import dataset_root, versions
from include.lifecycle.maintenance.context import Context
from include.lifecycle.maintenance.files import GONE, age_of, remove_tree, size_of
from include.lifecycle.maintenance.items import Item, Keeper, judged
from models.training.samples import read_manifest


class DatasetKeeper(Keeper):
    """Published versions. Their files are linked into the chunk cache, whose turn comes once no version has them."""

    kind = "dataset version"

    def __init__(self, context: Context) -> None:
        self.context = context
        self.root = dataset_root(context.settings)

    def items(self) -> Iterator[Item]:
        newest = self._newest()
        yield from (self._judged(name, newest) for name in versions(self.root))

    def item(self, name: str) -> Item | None:
        return self._judged(name, self._newest()) if (self.root / name / MANIFEST).is_file() else None

    def remove(self, item: Item) -> None:
        remove_tree(self.root / item.name, self.root)

    def _judged(self, name: str, newest: dict[str, str]) -> Item:
        needed = self.context.needed().datasets.get(name) or newest.get(name, "")
        size, age = size_of(self.root / name), age_of(self.root / name)
        return judged(self.context.limits, self.kind, name, size, age, self.context.limits.dataset_days, needed)

    def _newest(self) -> dict[str, str]:
        """Of each dataset the versions that stay at any age."""
        keep = self.context.limits.keep_datasets
        by_name: dict[str, list[tuple[float, str]]] = {}
        for version in versions(self.root):
            manifest = self.root / version / MANIFEST
            by_name.setdefault(read_manifest(manifest)["name"], []).append((manifest.stat().st_mtime, version))
        return {
            version: f"one of the {keep} newest of {name}"
            for name, found in by_name.items()
            for _, version in sorted(found, reverse=True)[:keep]
        }


class PreparationKeeper(Keeper):
    """Work files of preparations, unfinished versions, cached chunks that no version has, cached images, and what is remembered of
    near copies and of listings."""

    kind = "preparation file"

    def __init__(self, context: Context) -> None:
        self.context = context
        self.root = dataset_root(context.settings)

    def items(self) -> Iterator[Item]:
        yield from (item for path in self._paths() if (item := self.item(path.relative_to(self.root).as_posix())))

    def item(self, name: str) -> Item | None:
        path, limits = self.root / name, self.context.limits
        if not path.exists():
            return None
        if path.is_file():
            found = path.stat()
            needed = "a version has it" if found.st_nlink > 1 else ""
            return judged(limits, self.kind, name, found.st_size, age_of(path), limits.cache_days, needed)
        limit = limits.cache_days if path.parent.name == "images" else limits.leftover_days
        return judged(limits, self.kind, name, size_of(path), age_of(path), limit)

    def remove(self, item: Item) -> None:
        path = self.root / item.name
        if path.is_file():
            # The facts go first: a chunk without them is made again, facts without a chunk would be believed.
            path.with_suffix(".json").unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        else:
            remove_tree(path, self.root)

    def _paths(self) -> Iterator[Path]:
        yield from sorted((self.root / ".work").glob("*"))
        yield from sorted((self.root / ".cache" / "images").glob("*"))
        yield from sorted((self.root / ".cache" / "chunks").glob("[!.]*.parquet"))
        for memory in ("near/[!.]*.npz", "listings/[!.]*.json"):
            yield from sorted((self.root / ".cache").glob(memory))
        # A version is written under a hidden name that begins with its own.
        yield from sorted(path for path in self.root.glob(".*-*.*") if path.is_dir() and not path.name.startswith(GONE))
