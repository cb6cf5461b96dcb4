"""Classifiers and captioners of an installed package."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from include.dataset.config import DatasetConfig
from include.dataset.hooks import find_hook
from include.dataset.loader import load_split
from tests.unit.include.dataset.conftest import publish

Config = Callable[..., DatasetConfig]
MODULE = """
def reds(images):
    assert all(image.dtype.name == "uint8" and image.shape[2] == 3 for image in images)
    return [float(image[..., 0].mean() > 191) for image in images]

def tells(pictures, captions):
    assert pictures.shape[1:] == (32, 32, 3)
    return [[f"seen: {one[0]}"] for one in captions]
"""
ENTRY_POINTS = "[atelier.image_classifiers]\nreds = scoring_plugin:reds\n[atelier.captioners]\ntells = scoring_plugin:tells\n"


@pytest.fixture(autouse=True)
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package as an installer leaves it."""
    facts = tmp_path / "site" / "scoring_plugin-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: scoring-plugin\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(ENTRY_POINTS)
    (facts.parent / "scoring_plugin.py").write_text(MODULE)
    monkeypatch.syspath_prepend(facts.parent)
    find_hook.cache_clear()
    yield
    find_hook.cache_clear()


def test_what_a_classifier_scores_too_high_is_quarantined_with_its_name_and_score(config: Config, tmp_path: Path) -> None:
    plain = publish(config(), tmp_path / "plain")
    version = publish(config(image_classifier="reds"), tmp_path / "root")
    rejects = pq.read_table(Path(version.manifest).parent / "quarantine.parquet").to_pylist()
    images = {key: image for split in plain.counts if plain.counts[split] for key, image in _images(plain.manifest, split).items()}
    reds = {key for key, image in images.items() if image[..., 0].mean() > 191}
    assert 0 < len(reds) < 10
    assert {row["key"] for row in rejects} == reds
    assert {(row["stage"], row["reason"]) for row in rejects} == {("filter", "reds gives it 1.00; max_score is 0.5")}


def _images(manifest: str, split: str) -> dict[str, object]:
    found = load_split(manifest, split)
    return dict(zip(found.keys, found.images, strict=True))


def test_a_captioner_adds_captions_behind_the_main_one(config: Config, tmp_path: Path) -> None:
    train = load_split(publish(config(captioner="tells", validation=0), tmp_path / "root").manifest, "train")
    assert [captions for _, captions in sorted(zip(train.keys, train.captions, strict=True))] == [
        [f"picture {index}", f"seen: picture {index}"] for index in range(10)
    ]


def test_one_that_is_not_installed_is_an_error_that_names_those_that_are(config: Config, tmp_path: Path) -> None:
    with pytest.raises(LookupError, match=r"'blues' is no installed entry point of atelier.image_classifiers; there are: reds"):
        publish(config(image_classifier="blues"), tmp_path / "root")
