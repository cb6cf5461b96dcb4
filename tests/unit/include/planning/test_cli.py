from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from include.client.policy import dump_policy
from include.contracts.defaults import default_policy
from include.contracts.events import Lane
from include.planning.cli import simulate
from include.simulation.arrivals import write_recording
from tests.unit.include.simulation.builders import arrival

app = typer.Typer()
app.command()(simulate)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    return result.exit_code, " ".join(result.output.split())


def test_it_prints_a_table_and_writes_a_plot(tmp_path: Path):
    path = tmp_path / "plots" / "waits.svg"
    code, output = run("--seconds", "20", "--workers", "2", "--load", "2", "--plot", str(path))
    assert code == 0, output
    for word in ("ours", "fifo", "strict", "count_round_robin", "high p99", "Jain", "requests"):
        assert word in output
    assert "<svg" in path.read_text()


def test_one_policy_may_be_asked_for_alone_and_bursts():
    code, output = run("--policy", "strict", "--seconds", "20", "--workers", "2", "--arrivals", "burst")
    assert code == 0, output
    assert "strict" in output and "fifo" not in output


def test_a_recording_is_replayed_with_its_own_models(tmp_path: Path):
    path = tmp_path / "topic.jsonl"
    write_recording(path, [arrival(f"r-{number}", at=50.0 + number, model="emoji", width=64, height=64) for number in range(5)])
    code, output = run("--arrivals", str(path), "--policy", "ours", "--policy", "fifo", "--workers", "1")
    assert code == 0, output
    assert "5 requests" in output and "topic.jsonl on 1 workers, 64 s" in output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--policy", "wishful"), "there is no policy wishful"),
        (("--arrivals", "nowhere.jsonl"), "nowhere.jsonl is no file"),
        (("--plot", "waits.txt"), "waits.txt must end in"),
        (("--load", "0"), "--load"),
    ],
)
def test_bad_options_are_told(arguments: tuple[str, ...], words: str):
    code, output = run(*arguments)
    assert code == 2
    assert words in output.replace("│ ", "")


def test_a_wrong_or_empty_recording_is_told(tmp_path: Path):
    path = tmp_path / "topic.jsonl"
    path.write_text("")
    assert "holds no arrivals" in run("--arrivals", str(path))[1]
    path.write_text("{}\n")
    assert "at is missing" in run("--arrivals", str(path))[1]


def test_a_policy_of_ones_own_is_compared(tmp_path: Path):
    path = tmp_path / "generous.yaml"
    path.write_text(dump_policy(default_policy().model_copy(update={"ladder": (), "lane_floor": dict.fromkeys(Lane, 0.0)})))
    code, output = run("--policy", "ours", "--policy", str(path), "--seconds", "20", "--workers", "2", "--load", "3")
    assert code == 0, output
    rows = dict(re.findall(r"│ (ours|generous.yaml) │.*?│ ([\d.]+) % │ \d+ │", output))
    assert float(rows["ours"]) > 0 and float(rows["generous.yaml"]) == 0, "a policy without a ladder degrades nothing"


def test_a_policy_that_contradicts_itself_is_told(tmp_path: Path):
    path = tmp_path / "broken.yaml"
    path.write_text(dump_policy(default_policy()).replace("lease_s: 30.0", "lease_s: 0"))
    code, output = run("--policy", str(path))
    assert code == 2 and "lease_s" in output
