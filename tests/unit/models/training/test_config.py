from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from models.training.config import TrainingConfig, load_config

CONFIGS = Path(__file__).parents[4] / "models" / "configs"


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("*.yaml")))
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


def test_a_misspelt_setting_is_answered_with_the_one_that_was_meant() -> None:
    with pytest.raises(ValidationError, match="lerning_rate is not a setting; did you mean learning_rate"):
        TrainingConfig.model_validate({"lerning_rate": 0.1})


def test_more_samples_a_pass_than_a_step_are_refused() -> None:
    with pytest.raises(ValidationError, match="micro_batch 8 must be at most batch_size 4"):
        TrainingConfig(micro_batch=8, batch_size=4)


def test_what_may_change_on_the_way_is_no_part_of_a_runs_identity() -> None:
    config = TrainingConfig()
    for name, value in (("max_steps", 7), ("learning_rate", 0.5), ("threads", 3), ("micro_batch", 2)):
        assert config.model_copy(update={name: value}).identity() == config.identity()
    assert config.model_copy(update={"batch_size": 3}).identity() != config.identity()


def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("- 1\n")
    with pytest.raises(ValueError, match="mapping"):
        load_config(tmp_path / "config.yaml")
