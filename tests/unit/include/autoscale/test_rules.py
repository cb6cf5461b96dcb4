from __future__ import annotations

import os
from pathlib import Path

import pytest

from include.autoscale.rules import KubernetesTarget, LocalTarget, RulesError, RulesFile, load_rules

GOOD = """
every_s: 5
pools:
  standard: {max_workers: 4, start_s: 20}
  spot:
    min_workers: 0
    max_workers: 8
    spot: true
    cost_per_h: 0.4
    driver: {kind: kubernetes, namespace: atelier, workload: deployment/worker-spot}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "autoscale.yaml"
    made.write_text(GOOD)
    return made


def test_a_file_becomes_rules(path: Path) -> None:
    rules = load_rules(path)
    assert rules.every_s == 5
    assert rules.pools["standard"].driver == LocalTarget()
    assert rules.pools["spot"].driver == KubernetesTarget(namespace="atelier", workload="deployment/worker-spot")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pools: {a: {max_workers: 0}}", r"pools\.a\.max_workers: .*greater than or equal to 1"),
        ("pools: {a: {max_workers: 2, min_workers: 3}}", r"pools\.a: .*max_workers must be at least min_workers, which is 3"),
        ("pools: {a: {max_workers: 2, minimum: 1}}", r"pools\.a\.minimum: unknown field"),
        ("pools: {a: {max_workers: 2, start_s: .nan}}", r"start_s"),
        ("pools: {a: {max_workers: 2, driver: {kind: slurm}}}", r"pools\.a\.driver: .*'local', 'kubernetes'"),
        ("pools: {a: {max_workers: 2, driver: {kind: kubernetes, namespace: x, workload: pod/y}}}", r"workload"),
        ("pools: {}", r"pools: .*at least 1"),
        ("pools: {a: {max_workers: 2026-01-01}}", r"not JSON serializable; write plain text and numbers"),
        ("- a", r"must hold pools"),
        ("pools: [", r"while parsing"),
    ],
)
def test_a_bad_file_names_the_field(path: Path, text: str, words: str) -> None:
    path.write_text(text)
    with pytest.raises(RulesError, match=words) as raised:
        load_rules(path)
    assert str(path) in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match=r"nowhere\.yaml: No such file or directory; docs/components/autoscale\.md has an example"):
        RulesFile(tmp_path / "nowhere.yaml")


def rewrite(path: Path, text: str) -> None:
    """As an editor does: another file in its place."""
    other = path.with_suffix(".new")
    other.write_text(text)
    os.replace(other, path)


def test_a_change_is_read_and_a_bad_one_leaves_what_held(path: Path) -> None:
    file = RulesFile(path)
    rewrite(path, GOOD.replace("max_workers: 4", "max_workers: 6"))
    assert file.refresh().pools["standard"].max_workers == 6
    rewrite(path, GOOD.replace("max_workers: 4", "max_workers: many"))
    assert file.refresh().pools["standard"].max_workers == 6
    assert "pools.standard.max_workers" in file.trouble
    path.unlink()
    assert file.refresh().pools["standard"].max_workers == 6
    rewrite(path, GOOD)
    assert (file.refresh().pools["standard"].max_workers, file.trouble) == (4, "")
