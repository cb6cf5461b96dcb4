from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from include.evaluation.model_card import Measured, markdown, model_card, page, write_card

METRICS = {
    "prompt_agreement": 0.5, "prompt_agreement_error": 0.02, "prompt_agreement_true": 0.6, "prompt_agreement_shuffled": 0.1,
    "held_out_loss": 0.25, "memorised_share": 0.75, "memorised_share_error": 0.05, "memorised_threshold": 0.3, "size_mb": 15.0,
}  # fmt: skip
FACTS = {
    "features": "two-tower-1",
    "machine": "x86_64, 2 cores",
    "threads": 2,
    "rendered": 8,
    "config": {"steps": 4, "grid_prompts": ["sun"]},
}
MANIFEST = {
    "name": "emoji", "digest": "ab" * 32, "size": 64, "counts": {"train": 90, "validation": 9, "test": 0},
    "licenses": {"CC BY-SA 4.0": 99}, "authors": {f"Author {index}": 10 for index in range(9)},
}  # fmt: skip
TAGS = {"atelier.method": "lora", "atelier.init": "base", "atelier.code_version": "c0de"}
CHAMPION = Measured(version="1", metrics={**METRICS, "prompt_agreement": 0.4, "held_out_loss": 0.3}, facts=FACTS)
CARD = model_card("emoji", Measured(version="2", metrics=METRICS, facts=FACTS), TAGS, MANIFEST, CHAMPION)


def test_figures_stand_beside_the_champions_with_error_and_meaning() -> None:
    agreement = CARD.rows[0]
    assert (agreement.value, agreement.champion) == ("0.5 ± 0.02", "0.4 ± 0.02")
    assert agreement.meaning == "other captions 0.100, true images 0.600"
    assert [row.metric for row in CARD.rows] == ["prompt_agreement", "held_out_loss", "memorised_share", "size_mb"]


def test_figures_on_other_features_are_not_put_beside_each_other() -> None:
    other = Measured(version="1", metrics=CHAMPION.metrics, facts={"features": "two-tower-0"})
    card = model_card("emoji", Measured(version="2", metrics=METRICS, facts=FACTS), TAGS, MANIFEST, other)
    assert {row.metric: row.champion for row in card.rows}["prompt_agreement"] == ""
    assert {row.metric: row.champion for row in card.rows}["held_out_loss"] == "0.3"
    assert "two-tower-0; those figures can't be compared" in card.notes[1]


def test_it_says_where_the_model_comes_from_and_what_it_copies() -> None:
    text = markdown(CARD)
    for said in ("CC BY-SA 4.0 (99)", "9: Author 0 (10)", "c0de", "ab" * 32, "75 % of its images are near copies"):
        assert said in text


def test_it_names_the_compressed_variants_that_a_sweep_offered() -> None:
    summary = {"offered": ["bf16", "onnx"], "best": "bf16", "size": "64x64", "machine": "x86_64-2"}
    text = markdown(model_card("emoji", CHAMPION, {**TAGS, "atelier.compression": json.dumps(summary)}, MANIFEST))
    assert "| Compressed variants | bf16, onnx; the fastest is bf16; measured at 64x64 on x86_64-2 |" in text
    nothing = {**TAGS, "atelier.compression": json.dumps({**summary, "offered": [], "best": None})}
    assert "| Compressed variants | none is worth having; measured at" in markdown(model_card("emoji", CHAMPION, nothing, MANIFEST))
    assert "Compressed variants" not in markdown(CARD)


def test_the_page_needs_no_other_file_and_escapes_names(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "grid.png")
    card = model_card("emoji", CHAMPION, TAGS, {**MANIFEST, "licenses": {"<script>": 1}})
    html = page(card, tmp_path / "grid.png", tmp_path / "grid.png")
    assert html.count("data:image/png;base64,") == 2
    assert "<script>" not in html and "&lt;script&gt;" in html
    assert [path.name for path in write_card(card, tmp_path / "grid.png", tmp_path / "grid.png", tmp_path)] == [
        "model_card.md",
        "model_card.html",
    ]


@pytest.mark.parametrize("missing", ["prompt_agreement_true", "memorised_threshold"])
def test_a_figure_without_its_reference_values_is_still_shown(missing: str) -> None:
    metrics = {name: value for name, value in METRICS.items() if name != missing}
    assert model_card("emoji", Measured(version="2", metrics=metrics, facts=FACTS), TAGS, MANIFEST).rows
