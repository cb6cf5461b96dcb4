"""``index.html``: the demo as one would show it to somebody."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from include.demo.burst_page import burst_context
from include.demo.charts import Mark, Point, curve_chart, timeline_chart, waits_chart
from include.demo.outcome import Outcome
from include.demo.pictures import image_name
from include.demo.rollback import Rollback
from include.demo.worker_page import worker_context
from include.lifecycle.training import run_directory

TEMPLATES = Path(__file__).parent / "templates"
METRICS = (
    ("held_out_loss", "held-out loss", "lower is better"),
    ("kernel_distance", "kernel distance", "lower is better"),
    ("prompt_agreement", "agreement of images and prompts", "higher is better"),
    ("own_image_top5", "own image among the nearest five", "higher is better"),
    ("memorised_share", "share of near copies of training images", "lower is better"),
    ("seconds_per_image", "seconds an image", "lower is better"),
    ("size_mb", "size in MB", ""),
)


def write_page(outcome: Outcome, report: dict[str, Any], pictures: dict[str, Any], out: Path) -> Path:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["seconds"] = seconds
    environment.filters["figure"] = figure
    path = out / "index.html"
    path.write_text(environment.get_template("index.html.j2").render(context(outcome, report, pictures)), encoding="utf-8")
    return path


def context(outcome: Outcome, report: dict[str, Any], pictures: dict[str, Any]) -> dict[str, Any]:
    waits = {lane: figures["waits_s"] for lane, figures in report["lanes"].items()}
    rollback = outcome.rollback
    return {
        "report": report,
        "pictures": pictures,
        "date": time.strftime("%-d %B %Y, %H:%M", time.localtime(outcome.started_at)),
        "waits_chart": Markup(waits_chart(waits)) if any(waits.values()) else "",
        "mosaic": [entry["images"][0] for entry in report["good"] if entry.get("images")][:12],
        "switch": switch_context(rollback) if rollback else None,
        "burst_view": burst_context(outcome.burst) if outcome.burst and report["burst"] else None,
        "worker_view": worker_context(outcome.workers) if outcome.workers else None,
        "loss_chart": Markup(loss) if (loss := loss_chart(outcome)) else "",
        "metrics": [row for row in METRICS if any(row[0] in found.metrics for found in outcome.versions)],
        "longest_step": max([step.seconds for step in outcome.steps.done] or [1.0]),
    }


def seconds(value: float | None) -> str:
    if value is None:
        return "-"
    if value < 10:
        return f"{value:.2f} s"
    return f"{value:.0f} s" if value < 90 else f"{int(value // 60)} min {int(value % 60)} s"


def figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def switch_context(rollback: Rollback) -> dict[str, Any]:
    """Chart and film strip of the stream of requests around the two moves of the alias."""
    start = rollback.shots[0].sent_at
    kinds = {rollback.first: "version-a", rollback.second: "version-b"}
    points = [
        Point(
            x=shot.event.at - start,
            y=shot.event.at - shot.sent_at,
            kind=kinds.get(shot.event.model_version or "", "version-other"),
            title=f"{shot.prompt}: {shot.event.state}, version {shot.event.model_version}, {shot.event.at - shot.sent_at:.2f} s",
        )
        for shot in rollback.shots
    ]
    trial = [Mark(x=rollback.trial.began_at - start, label=f"canary: {100 * rollback.trial.share:.0f} %")] if rollback.trial else []
    marks = [
        *trial,
        Mark(x=rollback.promoted_at - start, label=f"alias moved to {rollback.second}"),
        Mark(x=rollback.moved_at - start, label=f"alias moved back to {rollback.first}"),
    ]
    return {
        "chart": Markup(timeline_chart(points, marks, "Seconds from request to image, by model version")),
        "strip": film_strip(rollback),
    }


def film_strip(rollback: Rollback, around: int = 6) -> list[dict[str, Any]]:
    """The images about the two changes of version, each with the version that made it; ``mark`` names a move that came before."""
    shown = [shot for shot in rollback.shots if shot.event.images]
    changes = [number for number in range(1, len(shown)) if shown[number].event.model_version != shown[number - 1].event.model_version]
    near = sorted({number for change in changes for number in range(change - around, change + around) if 0 <= number < len(shown)})
    return [
        {
            "src": f"images/{image_name(shown[number].event.images[0])}",
            "prompt": shown[number].prompt,
            "version": shown[number].event.model_version,
            "kind": "version-b" if shown[number].event.model_version == rollback.second else "version-a",
            "change": number in changes,
        }
        for number in near
    ]


def loss_chart(outcome: Outcome) -> str:
    """The first version's training loss, from the metrics that the trainer wrote; empty where there are none."""
    if not outcome.versions:
        return ""
    path = run_directory(outcome.settings, outcome.versions[0].training.run_id) / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    series = {name: [(row["step"], row[name]) for row in rows if name in row] for name in ("loss", "validation_loss")}
    long_enough = {name: values for name, values in series.items() if len(values) > 2}
    return curve_chart(long_enough, "Training loss") if long_enough else ""
