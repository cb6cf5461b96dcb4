"""What a source gives: files, and what is known about each before it is read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SourceItem:
    """One image file and what is known about it before it is read."""

    key: str  #: unique and stable within the source
    path: str  #: a file, or s3://bucket/key
    captions: tuple[str, ...]  #: the main one first; empty means that none was found
    license: str
    author: str
    source: str  #: where it can be found again
    offset: int = 0  #: where the image begins in the file, in bytes; not 0 for a member of a tar
    length: int | None = None  #: bytes; None means up to the end of the file
    stamp: str = ""  #: changes when the file does: size and time of a file, the ETag of an object
    problem: str = ""  #: why it can't be used, where listing has already seen that


class Source(ABC):
    """A finite, ordered collection of captioned image files."""

    @abstractmethod
    def items(self) -> Iterator[SourceItem]:
        """In the order of the keys.

        Raises :class:`FileNotFoundError` where there is no such place, :class:`ValueError` for a table of captions that can't be read.
        """
