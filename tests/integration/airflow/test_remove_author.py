"""``remove_author`` in Airflow: what is affected by itself, the next versions only where they are asked for."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from include.dataset.__main__ import prepare_dataset
from include.dataset.config import DatasetConfig
from include.lifecycle.datasets import dataset_root, resolve
from tests.integration.airflow.conftest import Lifecycle
from tests.support.registry import register


def pictures(folder: Path, root: Path) -> str:
    """Publishes a dataset of three images, of which Ann made one; its version."""
    folder.mkdir()
    for colour, author in (("red", "Ann"), ("green", "Bob"), ("blue", "Bob")):
        Image.new("RGB", (16, 16), colour).save(folder / f"{colour}.png")
        (folder / f"{colour}.json").write_text(json.dumps({"caption": f"a {colour} square", "author": author}))
    config = DatasetConfig(name="squares", source="folder", path=str(folder), size=16, validation=0)
    return prepare_dataset(config, root, processes=1).version


def test_a_run_says_what_is_affected_and_publishes_where_it_is_told_to(lifecycle: Lifecycle, tmp_path: Path) -> None:
    root = dataset_root(lifecycle.settings)
    version = pictures(tmp_path / "images", root)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model_index.json").write_text("{}")
    marks = {"atelier.dataset_digest": resolve(root, version).digest}
    number = register(tmp_path / "model", "of-squares", lifecycle.settings.mlflow, marks).version

    shown = lifecycle.run("remove_author", author="Ann")
    assert lifecycle.result(shown, "affected") == [
        f"dataset {version}: 1 samples",
        f"model of-squares version {number}: trained on {version}",
    ]
    assert {task.task_id: task.state for task in lifecycle.api.task_states("remove_author", shown.run_id)}["publish"] == "skipped"

    (made,) = lifecycle.result(lifecycle.run("remove_author", author="Ann", apply=True), "publish")
    assert resolve(root, made).counts["train"] == 2
    assert json.loads((root / made / "manifest.json").read_text())["parent"] == version
