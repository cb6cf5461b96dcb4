"""A dataset version as one self-contained HTML page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from PIL import Image

SHEET_COLUMNS, SHEET_ROWS, TILE = 16, 10, 48

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Dataset {version}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; margin: 0 0 1.5rem }}
td, th {{ border-bottom: 1px solid #ddd; padding: .25rem 1rem .25rem 0; text-align: left }}
img {{ max-width: 100%; border: 1px solid #ddd }} code {{ font-size: .9em; word-break: break-all }}
</style>
<h1>Dataset {version}</h1>
<p>Digest <code>{digest}</code>, {size} px.</p>
{tables}
<h2>Contact sheet</h2><img alt="{shown} of the samples" src="data:image/png;base64,{sheet}">
</html>
"""


def render_report(manifest: Mapping[str, Any], samples: Sequence[Mapping[str, Any]], rejects: Sequence[Mapping[str, Any]]) -> str:
    shown = evenly(samples, SHEET_COLUMNS * SHEET_ROWS)
    tables = [
        _table("Samples", ("split", "samples"), manifest["counts"].items()),
        _table("Rejected", ("stage and reason", "files"), manifest["rejected"].items()),
        _table("Licences", ("licence", "samples"), manifest["licenses"].items()),
        _table("Authors", ("author", "samples"), list(manifest["authors"].items())[:30]),
        _table("First rejects", ("file", "stage", "reason"), [(row["key"], row["stage"], row["reason"]) for row in rejects[:50]]),
    ]
    version = f"{manifest['name']}-{manifest['digest'][:12]}"
    return _PAGE.format(
        version=escape(version),
        digest=manifest["digest"],
        size=manifest["size"],
        tables="\n".join(tables),
        shown=len(shown),
        sheet=_contact_sheet(shown),
    )


def evenly(samples: Sequence[Any], count: int) -> list[Any]:
    """``count`` samples at equal distances, all if there are fewer."""
    step = max(1, -(-len(samples) // count))
    return list(samples[::step])


def _contact_sheet(samples: Sequence[Mapping[str, Any]]) -> str:
    rows = max(1, -(-len(samples) // SHEET_COLUMNS))
    sheet = Image.new("RGB", (SHEET_COLUMNS * TILE, rows * TILE), "white")
    for index, sample in enumerate(samples):
        tile = Image.open(io.BytesIO(sample["image"])).resize((TILE, TILE))
        sheet.paste(tile, (index % SHEET_COLUMNS * TILE, index // SHEET_COLUMNS * TILE))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _table(title: str, head: Sequence[str], rows: Any) -> str:
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    if not body:
        return f"<h2>{title}</h2><p>None.</p>"
    return f"<h2>{title}</h2><table><tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>{body}</table>"
