from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from include.client.policy import PolicyError, dump_policy, load_policy
from include.client.policy_cli import _quota_message
from include.contracts.defaults import default_policy


def file_with(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    return path


def test_what_is_shown_can_be_sent_back(tmp_path: Path) -> None:
    shipped = default_policy()
    loaded = load_policy(file_with(tmp_path, dump_policy(shipped)), "someone")
    assert loaded.model_copy(update={"at": shipped.at, "by": shipped.by}) == shipped
    assert loaded.by == "someone" and loaded.at > 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must hold the fields of a policy"),
        ("- 1\n- 2\n", "must hold the fields of a policy"),
        ("lanes: [", "policy.yaml"),
        ("lanes: []\nlane_bound_s: {high: 1, normal: 1, low: 1}\n", "realtime free has no rule without max_gpu_s"),
        ("lane_bound_s: {high: 1, normal: 1, low: 1}\n", "lanes"),
        ("lanez: []\n", "lane"),
        ("lanes: !!python/object/apply:os.system ['true']\n", "policy.yaml"),
        (dump_policy(default_policy()).replace("lease_s: 30.0", "lease_s: .nan"), "lease_s"),
    ],
)
def test_a_file_that_is_no_policy_is_refused_with_the_field(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(PolicyError, match=words):
        load_policy(file_with(tmp_path, text), "someone")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"nowhere\.yaml"):
        load_policy(tmp_path / "nowhere.yaml", "someone")


def test_a_quota_is_changed_in_parts() -> None:
    present = {"rate": 1.0, "burst_s": 10.0, "max_queued": 5, "max_running": 2, "weight": 1.0}
    assert _quota_message("acme", present, {"weight": 3.0}).quota.weight == 3.0
    assert _quota_message("acme", {}, {}).quota is None


@pytest.mark.parametrize("changes", [{"rate": 1.0}, {"rate": -1.0, "burst_s": 1.0, "max_queued": 1, "max_running": 1}])
def test_half_a_quota_says_what_is_missing(changes: dict[str, Any]) -> None:
    with pytest.raises(typer.BadParameter, match="--rate, --burst"):
        _quota_message("acme", {}, changes)
