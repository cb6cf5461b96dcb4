"""Keepers of things that are a directory each."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

from include.lifecycle.maintenance.context import Context
from include.lifecycle.maintenance.files import remove_tree
from include.lifecycle.maintenance.items import Item, Keeper


class DirectoryKeeper(Keeper):
    """An item's name is its path below ``root``.

    :param root: on the file system of what is removed, for it is renamed there first
    """

    def __init__(self, context: Context, root: Path) -> None:
        self.context = context
        self.root = root

    def item(self, name: str) -> Item | None:
        path = self.root / name
        return self.judge(path) if path.is_dir() else None

    def remove(self, item: Item) -> None:
        remove_tree(self.root / item.name, self.root)

    @abstractmethod
    def judge(self, path: Path) -> Item:
        """The directory as it is at this moment."""
