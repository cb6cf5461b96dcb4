"""The model card of a version, written from its evaluation: as Markdown, and as one self-contained HTML page.

The sections follow Mitchell et al. (2019), Model Cards for Model Reporting.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

SUMMARY_TAG = "atelier.compression"  #: on a version: JSON, what the newest sweep over it found
TEMPLATES = Path(__file__).parent / "templates"
MARKDOWN, PAGE = "model_card.md", "model_card.html"
ON_NETWORK = ("kernel_distance", "prompt_agreement", "diversity", "memorised_share", "own_image_top5")

#: Metric, its title, how it is read. Braces name other metrics.
ROWS = (
    ("prompt_agreement", "Prompt agreement", "other captions {prompt_agreement_shuffled:.3f}, true images {prompt_agreement_true:.3f}"),
    ("kernel_distance", "Kernel distance", "lower is better; 0 is what true images have on average"),
    ("held_out_loss", "Held-out loss", "lower is better"),
    ("own_image_top5", "Own image in nearest five", "higher follows prompts, and recalls more"),
    ("diversity", "Diversity", "effective number of different images; of the true ones {diversity_true:.1f}"),
    ("memorised_share", "Memorised share", "nearer than {memorised_threshold:.2f} to a training image"),
    ("leaked_samples", "Leaked samples", "held-out samples with a near copy among those trained on; must be 0"),
    ("seconds_per_image", "Seconds an image", "half take {seconds_per_image_p50:.3g} s at most, 95 % {seconds_per_image_p95:.3g} s"),
    ("size_mb", "Size, MB", "of all files"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CardRow:
    metric: str
    title: str
    value: str
    champion: str  #: empty where there is none or it can't be compared
    meaning: str


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    model: str
    version: str
    champion: str | None
    summary: str
    rows: list[CardRow]
    notes: list[str]
    lineage: list[tuple[str, str]]
    limits: list[str]
    grid_prompts: list[str]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What an evaluation said of a version."""

    version: str
    metrics: Mapping[str, float]
    facts: Mapping[str, Any]


def model_card(
    model: str, measured: Measured, tags: Mapping[str, str], manifest: Mapping[str, Any], champion: Measured | None = None
) -> ModelCard:
    """:param tags: of the version, which have its lineage
    :param manifest: of the dataset version that it was trained on
    """
    facts = measured.facts
    images, size = int(manifest["counts"]["train"]), manifest["size"]
    summary = (
        f"A text-to-image model, trained by {tags.get('atelier.method', 'full')} training on {images} captioned images of "
        f"{size} px from the dataset {manifest['name']}, measured with {facts.get('rendered', 0)} prompts."
    )
    return ModelCard(
        model=model,
        version=measured.version,
        champion=champion.version if champion else None,
        summary=summary,
        rows=_rows(measured, champion),
        notes=_notes(measured, champion),
        lineage=_lineage(tags, manifest),
        limits=_limits(measured, manifest),
        grid_prompts=list(facts.get("config", {}).get("grid_prompts", ())),
    )


def _rows(measured: Measured, champion: Measured | None) -> list[CardRow]:
    same_network = champion is not None and champion.facts.get("features") == measured.facts.get("features")
    rows = []
    for metric, title, meaning in ROWS:
        if metric in measured.metrics:
            other = champion.metrics if champion and (same_network or metric not in ON_NETWORK) else {}
            said = meaning.format_map({**dict.fromkeys(_NAMED, float("nan")), **measured.metrics})
            rows.append(
                CardRow(metric=metric, title=title, value=_value(measured.metrics, metric), champion=_value(other, metric), meaning=said)
            )
    return rows


_NAMED = (
    "prompt_agreement_shuffled", "prompt_agreement_true", "diversity_true", "memorised_threshold", "seconds_per_image_p50",
    "seconds_per_image_p95",
)  # fmt: skip


def _value(metrics: Mapping[str, float], metric: str) -> str:
    if metric not in metrics:
        return ""
    error = metrics.get(f"{metric}_error")
    if metric in ("memorised_share", "own_image_top5"):
        return f"{100 * metrics[metric]:.0f} %" + (f" ± {100 * error:.0f}" if error is not None else "")
    return f"{metrics[metric]:.4g}" + (f" ± {error:.2g}" if error is not None else "")


def _notes(measured: Measured, champion: Measured | None) -> list[str]:
    facts = measured.facts
    notes = [
        f"± is one standard error. Images are compared by {facts.get('features')}. Speed on {facts.get('machine')}, "
        f"{facts.get('threads')} threads, {facts.get('config', {}).get('steps')} steps."
    ]
    if champion is None:
        notes.append("There was no other champion to compare with.")
    elif champion.facts.get("features") != facts.get("features"):
        notes.append(f"The champion was measured on {champion.facts.get('features', 'nothing')}; those figures can't be compared.")
    return notes


def _lineage(tags: Mapping[str, str], manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    licenses = ", ".join(f"{name} ({count})" for name, count in manifest["licenses"].items())
    authors = dict(sorted(manifest["authors"].items(), key=lambda author: -author[1]))
    named = ", ".join(f"{name} ({count})" for name, count in list(authors.items())[:5])
    known = [
        ("Dataset", f"{manifest['name']}-{manifest['digest'][:12]}"),
        ("Dataset digest", manifest["digest"]),
        ("Samples", ", ".join(f"{split} {count}" for split, count in manifest["counts"].items())),
        ("Licences", licenses),
        ("Authors", f"{len(authors)}: {named}{' and others' if len(authors) > 5 else ''}"),
    ]
    named_tags = ("init", "parent", "method", "steps", "seed", "code_version")
    trained = [(name.replace("_", " ").capitalize(), tags[f"atelier.{name}"]) for name in named_tags if tags.get(f"atelier.{name}")]
    return [*known, *trained, *_compressed(tags)]


def _compressed(tags: Mapping[str, str]) -> list[tuple[str, str]]:
    """What the newest sweep of ``compress_model`` over the version found; empty where there was none."""
    if SUMMARY_TAG not in tags:
        return []
    found = json.loads(tags[SUMMARY_TAG])
    names = ", ".join(found["offered"]) or "none is worth having"
    fastest = f"; the fastest is {found['best']}" if found["best"] else ""
    return [("Compressed variants", f"{names}{fastest}; measured at {found['size']} on {found['machine']}")]


def _limits(measured: Measured, manifest: Mapping[str, Any]) -> list[str]:
    share = measured.metrics.get("memorised_share", 0.0)
    limits = [
        f"It has seen {manifest['counts']['train']} images and their captions; what is in neither, it can't be relied on to draw.",
        f"It was trained at {manifest['size']} px; other sizes were not measured.",
        "Prompts are those of training captions, so agreement and distance count recall of what was learned as well as invention.",
    ]
    if share > 0.5:
        limits.append(
            f"{100 * share:.0f} % of its images are near copies of training images: their licence and authors apply to what it draws."
        )
    return limits


def markdown(card: ModelCard) -> str:
    """The pictures are named as files beside it."""
    head = f"| metric | version {card.version} | champion {card.champion or '(none)'} | read it so |\n|---|---|---|---|"
    rows = "\n".join(f"| {row.title} (`{row.metric}`) | {row.value} | {row.champion or '-'} | {row.meaning} |" for row in card.rows)
    lineage = "\n".join(f"| {name} | {value} |" for name, value in card.lineage)
    parts = [
        f"# {card.model}, version {card.version}",
        card.summary,
        f"![samples](grid.png)\n\n{' · '.join(card.grid_prompts)}",
        f"## Measured\n\n{head}\n{rows}",
        *card.notes,
        "## New or remembered?\n\n![nearest training images](nearest.png)\n\nOdd rows: rendered images that are nearest to a training "
        "image. Below each: that training image.",
        f"## Where it comes from\n\n| | |\n|---|---|\n{lineage}",
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in card.limits),
    ]
    return "\n\n".join(parts) + "\n"


def page(card: ModelCard, grid: Path | str, sheet: Path | str) -> str:
    """One file with its pictures inside."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, autoescape=True, trim_blocks=True)
    return environment.get_template("model_card.html.j2").render(card=card, grid=_inline(grid), sheet=_inline(sheet))


def write_card(card: ModelCard, grid: Path | str, sheet: Path | str, folder: Path) -> list[Path]:
    texts = {folder / MARKDOWN: markdown(card), folder / PAGE: page(card, grid, sheet)}
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return list(texts)


def _inline(path: Path | str) -> str:
    return "data:image/png;base64," + base64.b64encode(Path(path).read_bytes()).decode()
