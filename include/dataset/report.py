"""A dataset version as one self-contained HTML page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from include.dataset.cache import ImageReader
from include.dataset.fingerprints import SIDE

SHEET_COLUMNS, SHEET_ROWS = 24, 10
SHOWN = 12  #: samples shown at full size, with their captions
BARS = 16

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Dataset {version}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; margin: 0 0 1.5rem }}
td, th {{ border-bottom: 1px solid #ddd; padding: .25rem 1rem .25rem 0; text-align: left; overflow-wrap: anywhere }}
img {{ max-width: 100%; border: 1px solid #ddd }} code {{ font-size: .9em; word-break: break-all }}
.samples {{ display: flex; flex-wrap: wrap; gap: 1rem }} figure {{ margin: 0; width: 8.5rem; font-size: .85em; overflow-wrap: anywhere }}
svg {{ display: block; width: 24rem; max-width: 100% }} rect {{ fill: #4a7dbd }} text {{ font-size: 9px; fill: #555 }}
</style>
<h1>Dataset {version}</h1>
<p>Digest <code>{digest}</code>, {size} px, {fit}, stored as {image_format}.</p>
{tables}
{histograms}
<h2>Samples</h2><div class="samples">{samples}</div>
<h2>Contact sheet</h2><p>{shown} samples at equal distances, as small as they are compared for near copies.</p>
<img alt="{shown} of the samples" src="data:image/jpeg;base64,{sheet}">
</html>
"""


def render_report(
    manifest: Mapping[str, Any], samples: Sequence[Mapping[str, Any]], rejects: Sequence[Mapping[str, Any]], reader: ImageReader
) -> str:
    sheet = evenly(samples, SHEET_COLUMNS * SHEET_ROWS)
    config = manifest["config"]
    version = f"{manifest['name']}-{manifest['digest'][:12]}"
    return _PAGE.format(
        version=escape(version),
        digest=manifest["digest"],
        size=manifest["size"],
        fit={"pad": "padded to squares", "crop": "cut to squares", "bucket": "in buckets by aspect ratio"}[config["fit"]],
        image_format=config["image_format"],
        tables="\n".join(_tables(manifest, samples, rejects)),
        histograms="\n".join(_histograms(samples)),
        samples="".join(_figure(row, reader) for row in evenly(samples, SHOWN)),
        shown=len(sheet),
        sheet=_contact_sheet(reader.pictures([row["place"] for row in sheet])),
    )


def evenly(samples: Sequence[Any], count: int) -> list[Any]:
    """``count`` samples at equal distances, all if there are fewer."""
    step = max(1, -(-len(samples) // count))
    return list(samples[::step])


def _tables(manifest: Mapping[str, Any], samples: Sequence[Mapping[str, Any]], rejects: Sequence[Mapping[str, Any]]) -> list[str]:
    sizes: dict[str, int] = {}
    for entry in (entry for files in manifest["files"].values() for entry in files):
        name = f"{entry['width']} x {entry['height']}"
        sizes[name] = sizes.get(name, 0) + entry["rows"]
    groups = len({row["group"] for row in samples})
    return [
        _table("Samples", ("split", "samples"), [*manifest["counts"].items(), ("groups of near copies", groups)]),
        _table("Rejected", ("stage and reason", "files"), list(manifest["rejected"].items())[:50]),
        _table("Sizes", ("pixels", "samples"), sizes.items()),
        _table("Licences", ("licence", "samples"), list(manifest["licenses"].items())[:50]),
        _table("Authors", ("author", "samples"), list(manifest["authors"].items())[:30]),
        _table("First rejects", ("file", "stage", "reason"), [(row["key"], row["stage"], row["reason"]) for row in rejects[:50]]),
    ]


def _histograms(samples: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        _histogram("Length of the main caption, characters", [len(row["captions"][0]) for row in samples]),
        _histogram("Captions a sample", [len(row["captions"]) for row in samples]),
        _histogram("Entropy, bits a pixel", [row["entropy"] for row in samples]),
        _histogram("Sharpness, variance of the Laplacian", [row["sharpness"] for row in samples]),
    ]


def _histogram(title: str, values: Sequence[float]) -> str:
    counts, edges = np.histogram(np.asarray(values, np.float64), BARS)
    width, height = 300 / BARS, 60
    heights = counts / max(1, counts.max()) * height
    bars = "".join(
        f'<rect x="{index * width:.1f}" y="{height - tall:.1f}" width="{width - 1:.1f}" height="{tall:.1f}"><title>{count}</title></rect>'
        for index, (tall, count) in enumerate(zip(heights, counts, strict=True))
    )
    ends = f'<text x="0" y="72">{edges[0]:.4g}</text><text x="300" y="72" text-anchor="end">{edges[-1]:.4g}</text>'
    return f'<h2>{title}</h2><svg viewBox="0 0 300 76" role="img" aria-label="{title}">{bars}{ends}</svg>'


def _figure(row: Mapping[str, Any], reader: ImageReader) -> str:
    data = reader.image(row["place"])
    kind = {b"\x89P": "png", b"\xff\xd8": "jpeg", b"RI": "webp"}[data[:2]]
    image = base64.b64encode(data).decode()
    caption = escape(row["captions"][0][:200])
    return f'<figure><img alt="{caption}" src="data:image/{kind};base64,{image}"><figcaption>{caption}</figcaption></figure>'


def _contact_sheet(pictures: np.ndarray) -> str:
    rows = -(-len(pictures) // SHEET_COLUMNS)
    sheet = np.full((rows * SHEET_COLUMNS, SIDE, SIDE, 3), 255, np.uint8)
    sheet[: len(pictures)] = pictures
    tiled = sheet.reshape(rows, SHEET_COLUMNS, SIDE, SIDE, 3).transpose(0, 2, 1, 3, 4).reshape(rows * SIDE, SHEET_COLUMNS * SIDE, 3)
    buffer = io.BytesIO()
    Image.fromarray(tiled).save(buffer, "JPEG", quality=90, subsampling=0)
    return base64.b64encode(buffer.getvalue()).decode()


def _table(title: str, head: Sequence[str], rows: Any) -> str:
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    if not body:
        return f"<h2>{title}</h2><p>None.</p>"
    return f"<h2>{title}</h2><table><tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>{body}</table>"
