"""What ``atelier why`` and ``atelier redrive`` say where there is nothing to ask, or the question is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from include.client.dead_letters import Action, Found, Redrive, Selection
from include.client.exits import EXIT_NO_BROKER
from include.client.operator_cli import EXIT_USAGE, _show_plan
from include.client.operator_views import SHOWN_LETTERS, counted, sent_words
from include.client.redriven import RedriveLog
from include.config import settings
from include.contracts.dead_letters import DeadLetter
from include.contracts.errors import Reason, ReasonCode
from include.platform.cli import app
from include.platform.environment import settings_environment
from tests.support.services import free_settings


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CliRunner]:
    """Its commands see an installation of its own, of which nothing runs."""
    for name, value in settings_environment(free_settings(tmp_path / "home")).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("include.client.scanning.ANSWER_S", 0.5)
    settings.cache_clear()
    yield CliRunner()
    settings.cache_clear()


@pytest.mark.parametrize("command", [["why", "r1"], ["why", "r1", "--json"], ["redrive", "--yes"], ["redrive", "--dry-run"]])
def test_without_a_broker(runner: CliRunner, command: list[str]) -> None:
    result = runner.invoke(app, command)
    assert result.exit_code == EXIT_NO_BROKER
    assert settings().bootstrap in result.stderr and "`atelier status` tells" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--since", "yesterday", "neither a number of seconds nor an ISO 8601 time"),
        ("--source", "workers", "none of requests.batch, requests.realtime"),
        ("--reason", "bad_luck", "overloaded"),
    ],
)
def test_a_wrong_option_is_named(runner: CliRunner, option: str, value: str, words: str) -> None:
    result = runner.invoke(app, ["redrive", option, value], env={"COLUMNS": "400"})
    assert result.exit_code == EXIT_USAGE
    assert option in result.stderr and words in result.stderr


def test_two_redrives_at_once(runner: CliRunner) -> None:
    with RedriveLog(settings()):
        result = runner.invoke(app, ["redrive"])
    assert result.exit_code == 1
    assert "another redrive is under way" in result.stderr


def one(action: Action, name: str = "r1", sent_as: str | None = None) -> Redrive:
    reason = Reason(code=ReasonCode.INVALID_FIELD, message="width: odd", field="wi[dth]")
    letter = DeadLetter(source_topic="requests.realtime", at=1.0, reason=reason, request_id=name, tenant="acme", attempts=2)
    return Redrive(found=Found(letter=letter, key=name, size=3), action=action, note="be[cause]", request_id=sent_as or name)


def test_the_plan_is_whole_unless_something_can_not_be_sent(capsys: pytest.CaptureFixture[str]) -> None:
    assert _show_plan([one(Action.SEND), one(Action.NOTHING), one(Action.NOT_A_REQUEST)], Selection())
    assert not _show_plan([one(Action.SEND), one(Action.IMPOSSIBLE)], Selection())
    shown = capsys.readouterr().out
    for words in ("r1", "acme", "invalid_field", "wi[dth]", "2", "can't be sent: be[cause]"):
        assert words in shown
    assert "2 dead letters: 1 to send, 1 can't be sent" in shown


def test_an_id_without_a_letter_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert not _show_plan([one(Action.SEND)], Selection(ids=frozenset({"r1", "R1"})))
    assert "no dead letter of R1; ids are case-sensitive" in capsys.readouterr().err


def test_nothing_to_do_is_fine(capsys: pytest.CaptureFixture[str]) -> None:
    assert _show_plan([], Selection())
    assert "nothing to do" in capsys.readouterr().out


def test_a_long_plan_shows_what_is_sent_first_and_says_what_it_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    plan = [one(Action.NOTHING, f"old-{number}") for number in range(SHOWN_LETTERS)] + [one(Action.SEND, "new-1")]
    _show_plan(plan, Selection())
    shown = capsys.readouterr().out
    assert "new-1" in shown and f"old-{SHOWN_LETTERS - 1}" not in shown
    assert counted(plan) == f"{SHOWN_LETTERS + 1} dead letters: 1 to send, {SHOWN_LETTERS} nothing to do (the table shows {SHOWN_LETTERS})"


def test_what_was_sent_is_said_with_the_new_ids() -> None:
    assert sent_words([one(Action.SEND)]) == ["1 put back, 1 byte for byte under the id they had"]
    lines = sent_words([one(Action.SEND), one(Action.SEND, "r2", "r2-r1")])
    assert lines[0] == "2 put back, 1 byte for byte under the id they had"
    assert "atelier why r2-r1" in lines[1]


def test_the_options_are_in_the_help(runner: CliRunner) -> None:
    shown = {name: runner.invoke(app, [name, "--help"], env={"COLUMNS": "200"}).output for name in ("why", "redrive")}
    assert all(option in shown["why"] for option in ("--json", "--follow"))
    wanted = ("--id", "--tenant", "--reason", "--source", "--since", "--new-id", "--again", "--dry-run", "--yes")
    assert all(option in shown["redrive"] for option in wanted)
