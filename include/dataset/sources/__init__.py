"""Where images and their captions come from: OpenMoji, a folder or S3 prefix in any of the usual layouts, the feedback archive."""

from __future__ import annotations

from pathlib import Path

from include.dataset.config import DatasetConfig
from include.dataset.sources.base import Source, SourceItem
from include.dataset.sources.feedback import FeedbackSource
from include.dataset.sources.folder import FolderSource
from include.dataset.sources.memory import memory_of
from include.dataset.sources.openmoji import OpenMojiSource

__all__ = ["FeedbackSource", "FolderSource", "OpenMojiSource", "Source", "SourceItem", "source_of"]


def source_of(config: DatasetConfig, root: Path | None = None) -> Source:
    """:param root: of the datasets; there it remembers what it has read"""
    if config.source == "feedback":
        return FeedbackSource(config.path or "", minimum_rating=config.min_rating)
    if config.source == "folder":
        memory = memory_of(root, config.path or "") if root else None
        return FolderSource(config.path or "", license=config.license, author=config.author, memory=memory)
    return OpenMojiSource()
