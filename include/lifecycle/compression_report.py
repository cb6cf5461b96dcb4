"""A sweep as a table, a Pareto plot and a page that needs nothing else."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from include.lifecycle.compression_chart import COLOURS, ParetoChart
from include.lifecycle.compression_verdicts import BUSY_PCT, CompressionPolicy, Judged, Status, offered, pareto_front
from models.compression.plan import Row, SweepPlan

TEMPLATES = Path(__file__).parent / "templates"
SHOWN = 6  #: prompts whose images stand side by side


class ReportFiles(NamedTuple):
    table: Path
    plot: Path
    page: Path


def write_report(plan: SweepPlan, rows: Sequence[Row], found: Sequence[Judged], policy: CompressionPolicy, features: str) -> ReportFiles:
    """``compression.json``, ``.png`` and ``.html`` in the sweep's directory.

    :param features: name of what the images were compared by
    """
    files = ReportFiles(*(plan.directory / f"compression.{suffix}" for suffix in ("json", "png", "html")))
    files.table.write_text(json.dumps(table(plan, found, policy, features), indent=1) + "\n", encoding="utf-8")
    chart = ParetoChart.of(found, policy)
    plot(chart, plan.original.label, files.plot)
    files.page.write_text(page(plan, rows, found, policy, chart, features), encoding="utf-8")
    return files


def table(plan: SweepPlan, found: Sequence[Judged], policy: CompressionPolicy, features: str) -> dict[str, Any]:
    """Everything measured and decided, for programs."""
    return {
        "schema_version": 1,
        "original": plan.original.label,
        "digest": plan.original.digest,
        "features": features,
        "measurement": plan.measurement.model_dump(mode="json"),
        "policy": policy.model_dump(),
        "pareto_front": [each.variant for each in pareto_front(found)],
        "variants": [each.model_dump(mode="json") for each in found],
    }


def plot(chart: ParetoChart, label: str, path: Path) -> None:
    """The chart as a PNG, for MLflow."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for bubble in chart.bubbles:
        axes.scatter(bubble.x, bubble.y, s=3.2 * bubble.radius**2, color=COLOURS[bubble.status], alpha=0.75, edgecolors="white", zorder=3)
        axes.annotate(
            bubble.label, (bubble.x, bubble.y), xytext=(0, bubble.radius + 3), textcoords="offset points", ha="center", fontsize=8
        )
    axes.plot([bubble.x for bubble in chart.front], [bubble.y for bubble in chart.front], color="#888888", linewidth=1, zorder=2)
    axes.axhline(chart.limit_y, linestyle="--", linewidth=1, color="#b3261e")
    axes.axvline(chart.limit_x, linestyle="--", linewidth=1, color="#b3261e")
    axes.set(xlim=(0, chart.high_x), ylim=(chart.low_y, chart.high_y), xlabel="ms an image (median)")
    axes.set(ylabel="kernel distance, % more than the original", title=f"Variants of {label}; the area is the network's size")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def page(
    plan: SweepPlan, rows: Sequence[Row], found: Sequence[Judged], policy: CompressionPolicy, chart: ParetoChart, features: str
) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("compression.html.j2").render(
        plan=plan,
        found=found,
        policy=policy,
        chart=chart,
        original=next(each for each in found if each.status is Status.ORIGINAL),
        fit=offered(found),
        front={each.variant for each in pareto_front(found)},
        strips=strips(rows, found),
        prompts=plan.measurement.prompts[:SHOWN],
        features=features,
        date=time.strftime("%-d %B %Y, %H:%M"),
        change=change,
        busy_pct=BUSY_PCT,
    )


def change(value: float, original: float) -> str:
    """Such as ``-28 %``."""
    return f"{100 * (value / original - 1):+.0f} %"


def strips(rows: Sequence[Row], found: Sequence[Judged]) -> list[dict[str, Any]]:
    """The first images of each measured variant, as data addresses, with how far each is from the original's in percent of the range."""
    paths = {row.variant: row.images for row in rows}
    pictures = {each.variant: _first(paths[each.variant]) for each in found if each.quality is not None}
    reference = next(pictures[each.variant] for each in found if each.status is Status.ORIGINAL)
    return [
        {
            "variant": each.variant,
            "status": each.status,
            "images": [
                {"src": _data(image), "differs": 100 * float(np.abs(image.astype(float) - own).mean()) / 255}
                for image, own in zip(pictures[each.variant], reference, strict=True)
            ],
        }
        for each in found
        if each.variant in pictures
    ]


def _first(path: Path | None) -> np.ndarray:
    if path is None:
        raise FileNotFoundError("a measured variant has no images")
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)[:SHOWN])


def _data(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
