"""A tiny vision transformer with weights that make it see one thing in dark images and another in light ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

from include.worker.ports import NoSafetyChecker, SafetyMode
from include.worker.safety import UNCHECKED, ImageClassifier, SafetyConfigError, safety_checker

DARK, LIGHT = Image.new("RGB", (20, 20), "black"), Image.new("RGB", (20, 20), "white")
LABELS = ["nsfw", "violence"]


@pytest.fixture(scope="session")
def classifier_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("classifier") / "vit"
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "image_size": 16, "patch_size": 8}
    labels = {0: "normal", 1: "NSFW", 2: "drawing"}
    model = ViTForImageClassification(ViTConfig(**sizes, id2label=labels, label2id={name: index for index, name in labels.items()})).eval()
    processor = ViTImageProcessor(size={"height": 16, "width": 16})
    with torch.no_grad():
        states = [model.vit(**processor(images=[image], return_tensors="pt")).last_hidden_state[0, 0] for image in (LIGHT, DARK)]
        apart = states[1] - states[0]
        model.classifier.weight.zero_()
        model.classifier.weight[1] = 20 * apart / apart.norm() ** 2
        model.classifier.bias.zero_()
        model.classifier.bias[1] = -20 * (apart @ (states[0] + states[1]) / 2) / apart.norm() ** 2
    model.save_pretrained(directory, safe_serialization=True)
    processor.save_pretrained(directory)
    return directory


def test_it_flags_what_it_was_told_to_look_for(classifier_dir: Path) -> None:
    checker = ImageClassifier(classifier_dir, SafetyMode.FLAG, LABELS)
    assert checker.check([DARK, LIGHT]) == [("NSFW",), ()]


def test_the_threshold_is_a_probability(classifier_dir: Path) -> None:
    assert ImageClassifier(classifier_dir, SafetyMode.FLAG, ["nsfw"], threshold=0.0).check([LIGHT]) == [("NSFW",)]


def test_labels_that_it_does_not_know_are_refused_with_those_it_knows(classifier_dir: Path) -> None:
    with pytest.raises(SafetyConfigError, match="knows none of violence; it knows normal, NSFW, drawing"):
        ImageClassifier(classifier_dir, SafetyMode.BLOCK, ["violence"])


def test_a_failure_blocks_or_is_told(classifier_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkers = [ImageClassifier(classifier_dir, mode, LABELS) for mode in (SafetyMode.FLAG, SafetyMode.BLOCK)]
    for checker in checkers:
        with torch.no_grad():
            checker._model.classifier.bias.fill_(float("nan"))
    assert checkers[0].check([DARK]) == [(UNCHECKED,)]
    with pytest.raises(ArithmeticError, match="no finite numbers"):
        checkers[1].check([DARK])


def test_off_needs_nothing() -> None:
    assert isinstance(safety_checker(SafetyMode.OFF, None, ()), NoSafetyChecker)


@pytest.mark.parametrize("mode", [SafetyMode.FLAG, SafetyMode.BLOCK])
def test_a_checker_that_can_not_be_had_stops_the_worker(mode: SafetyMode, tmp_path: Path) -> None:
    with pytest.raises(SafetyConfigError, match="needs ATELIER_SAFETY_MODEL"):
        safety_checker(mode, None, LABELS)
    with pytest.raises(SafetyConfigError, match="holds no image classifier"):
        safety_checker(mode, tmp_path / "nothing", LABELS)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    (tmp_path / "model.pt").write_bytes(b"\x80\x04")
    with pytest.raises(SafetyConfigError, match="may be a pickle"):
        safety_checker(mode, tmp_path, LABELS)
