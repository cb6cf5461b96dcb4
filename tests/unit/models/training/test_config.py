from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from models.training.config import TrainingConfig, load_config

CONFIGS = Path(__file__).parents[4] / "models" / "configs"


@pytest.mark.parametrize("name", ["base.yaml", "demo.yaml"])
def test_the_shipped_configurations_are_valid(name: str) -> None:
    assert load_config(CONFIGS / name).max_steps > 0


def test_the_demo_trains_on_what_the_base_was_trained_on() -> None:
    assert load_config(CONFIGS / "demo.yaml").exclude == load_config(CONFIGS / "base.yaml").exclude


def test_overrides_win_unless_none() -> None:
    config = load_config(CONFIGS / "demo.yaml", max_steps=3, seed=None)
    assert (config.max_steps, config.seed) == (3, load_config(CONFIGS / "demo.yaml").seed)


def test_learning_rate_rises_stays_and_falls() -> None:
    config = TrainingConfig(max_steps=100, warmup_steps=10, decay_fraction=0.2, learning_rate=1.0)
    rates = [config.learning_rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:80] == [1.0] * 70
    assert rates[99] == pytest.approx(0.05)
    longer = TrainingConfig(max_steps=200, warmup_steps=10, decay_fraction=0.2, learning_rate=1.0)
    assert rates[:80] == [longer.learning_rate_at(step) for step in range(80)]


@pytest.mark.parametrize(
    ("field", "value"),
    [("batch_size", 0), ("learning_rate", -1), ("ema_decay", 1.0), ("exclude", "("), ("optimizer", "sgd"), ("epochs", 3)],
)
def test_wrong_settings_are_named(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        TrainingConfig.model_validate({field: value})


def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("- 1\n")
    with pytest.raises(ValueError, match="mapping"):
        load_config(tmp_path / "config.yaml")
