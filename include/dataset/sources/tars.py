"""Webdataset tars: members that share a name up to the first dot are one sample."""

from __future__ import annotations

import posixpath
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from include.dataset.sources import sidecars
from include.dataset.sources.base import SourceItem
from include.dataset.sources.sidecars import Annotation
from include.dataset.trees import Entry, open_seekable

IMAGE_SUFFIXES = frozenset({".svg", ".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
MAX_TEXT = 1 << 20  #: bytes of a member that is read for its captions


@dataclass
class _Sample:
    images: list[tarfile.TarInfo] = field(default_factory=list)
    annotation: Annotation = field(default_factory=Annotation)


def members_of(entry: Entry) -> list[Any]:
    """The tar's images, each as name, offset, length and what is said about it, as :func:`items_of` takes them. Nothing is extracted.

    Raises :class:`ValueError` that names the tar where it is broken.
    """
    names: Counter[str] = Counter()
    members = []
    for sample in _samples(entry):
        for member in sample.images:
            names[member.name] += 1
            # A tar may hold several members of one name; each is a sample of its own.
            name = member.name if names[member.name] == 1 else f"{member.name}#{names[member.name]}"
            members.append([name, member.offset_data, member.size, sample.annotation.plain()])
    return members


def items_of(entry: Entry, members: list[Any], license: str, author: str) -> Iterator[SourceItem]:
    """An item says where in the tar its bytes are."""
    for name, offset, length, plain in members:
        said = Annotation.of(plain)
        yield SourceItem(
            key=f"{entry.key}/{name}",
            path=entry.path,
            captions=said.captions,
            license=said.license or license,
            author=said.author or author,
            source=said.source or f"{entry.key}/{name}",
            offset=offset,
            length=length,
            stamp=entry.stamp,
        )


def _samples(entry: Entry) -> Iterator[_Sample]:
    """A sample's members follow each other; the next name begins the next sample."""
    sample, current = _Sample(), None
    try:
        with open_seekable(entry) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                name, _, kind = posixpath.basename(member.name).partition(".")
                if not member.isfile():
                    continue
                if (posixpath.dirname(member.name), name) != current:
                    yield sample
                    sample, current = _Sample(), (posixpath.dirname(member.name), name)
                _add(sample, tar, member, kind.lower())
    except tarfile.TarError as error:
        raise ValueError(f"{entry.key} can't be read as a tar: {error}") from error
    yield sample


def _add(sample: _Sample, tar: tarfile.TarFile, member: tarfile.TarInfo, kind: str) -> None:
    if posixpath.splitext(f".{kind}")[1] in IMAGE_SUFFIXES or f".{kind}" in IMAGE_SUFFIXES:
        sample.images.append(member)
    elif kind in ("txt", "json") and member.size <= MAX_TEXT:
        file = tar.extractfile(member)
        data = file.read() if file else b""
        told = sidecars.of_text(data) if kind == "txt" else sidecars.of_json(data, member.name)
        sample.annotation = sample.annotation.over(told)
