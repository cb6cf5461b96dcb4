from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from include.client.reader import Record
from include.contracts.requests import ServiceClass
from include.planning import record_cli, recording
from include.planning.recording import Recording
from include.simulation.arrivals import read_recording

app = typer.Typer()
app.command()(record_cli.record)


def put(request_id: str, at: float | None, prompt: str = "a red heart") -> Record:
    value = json.dumps({"request_id": request_id, "tenant": "acme", "prompt": prompt}).encode()
    return Record(value=value, partition=0, offset=0, at=at)


def taken(*records: Record, since: float = 0.0) -> Recording:
    found = Recording(since=since)
    found.take(records, ServiceClass.REALTIME)
    return found


def test_both_topics_are_in_order_of_time() -> None:
    found = taken(put("r-2", 20.0), put("r-1", 10.0))
    found.take([put("r-3", 15.0)], ServiceClass.BATCH)
    assert [(one.request.request_id, one.service_class) for one in found.in_order()] == [
        ("r-1", ServiceClass.REALTIME),
        ("r-3", ServiceClass.BATCH),
        ("r-2", ServiceClass.REALTIME),
    ]


def test_of_an_id_the_first_counts_and_what_is_no_request_is_counted() -> None:
    broken = Record(value=b"{", partition=0, offset=1, at=3.0)
    null = Record(value=None, partition=0, offset=2, at=4.0)
    found = taken(put("r-1", 10.0, "second"), put("r-1", 5.0, "first"), broken, null)
    assert [one.request.prompt for one in found.in_order()] == ["first"]
    assert (found.repeated, found.unreadable) == (1, 2)


def test_what_is_older_than_asked_for_is_none_of_it() -> None:
    assert list(taken(put("old", 10.0), put("new", 30.0), put("unknown", None), since=20.0).arrivals) == ["new"]


def run(monkeypatch: pytest.MonkeyPatch, found: Recording, *arguments: str) -> tuple[int, str]:
    monkeypatch.setattr(recording, "read_recording_of", lambda *_: found)
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    return result.exit_code, result.output


def test_the_file_is_one_that_simulate_reads_without_what_people_wrote(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "days" / "topic.jsonl"
    code, output = run(monkeypatch, taken(put("r-1", 10.0), put("r-2", 70.0)), str(path))
    assert code == 0 and "2 requests over 60 s" in output
    assert [(one.at, one.request.prompt) for one in read_recording(path)] == [(10.0, "-"), (70.0, "-")]
    assert run(monkeypatch, taken(put("r-1", 10.0)), str(path), "--prompts")[0] == 0
    assert [one.request.prompt for one in read_recording(path)] == ["a red heart"]


def test_nothing_to_record_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, output = run(monkeypatch, taken(), str(tmp_path / "topic.jsonl"), "--since", "60")
    assert code == 1 and "no request of that time" in output
    assert run(monkeypatch, taken(), str(tmp_path / "x"), "--since", "yesterdayish")[0] == 2
