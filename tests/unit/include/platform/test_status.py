from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from include.config import Settings
from include.platform.service import Service, State, Unhealthy
from include.platform.status import last_line, service_status
from include.platform.supervisor import ProcessInfo
from include.platform.views import duration, one_line, status_table


def passes() -> None:
    return None


def fails() -> None:
    raise Unhealthy("no answer")


def breaks() -> None:
    raise KeyError("slots")


def process(state: str, uptime_s: float = 0, error: str = "") -> dict[str, ProcessInfo]:
    return {"one": ProcessInfo(name="one", state=state, pid=7, uptime_s=uptime_s, error=error)}


@pytest.mark.parametrize(
    ("command", "check", "processes", "state", "reason"),
    [
        (("x",), passes, process("RUNNING"), State.HEALTHY, ""),
        (("x",), passes, process("STARTING"), State.HEALTHY, ""),
        (("x",), fails, process("RUNNING", 10), State.STARTING, "no answer"),
        (("x",), fails, process("RUNNING", 90), State.UNREACHABLE, "no answer"),
        (("x",), breaks, process("RUNNING", 90), State.UNREACHABLE, "the check itself failed: KeyError: 'slots'"),
        (("x",), passes, process("BACKOFF", error="exited too quickly"), State.DOWN, "exited too quickly; starts again by itself"),
        (("x",), passes, process("STOPPED"), State.DOWN, "stopped"),
        (("x",), passes, {}, State.DOWN, "not known to the supervisor"),
        (("x",), passes, None, State.DOWN, "no supervisor"),
        ((), passes, None, State.HEALTHY, ""),
        ((), fails, None, State.UNREACHABLE, "no answer"),
    ],
)
def test_state_follows_process_and_check(
    command: tuple[str, ...],
    check: Callable[[], None],
    processes: dict[str, ProcessInfo] | None,
    state: State,
    reason: str,
    tmp_path: Path,
) -> None:
    found = service_status(Settings(_env_file=None, home=tmp_path), Service(name="one", command=command, check=check), processes)
    assert found.state is state
    assert reason in found.reason
    assert bool(found.reason) is (state is not State.HEALTHY)


def test_the_last_line_that_says_something(tmp_path: Path) -> None:
    log = tmp_path / "one.log"
    assert last_line(log) == ""
    log.write_bytes(b"x" * 10_000 + b"\nfirst\n\xff second \n\n  \n")
    assert last_line(log).endswith("second")


def test_the_table_fits_its_width(tmp_path: Path) -> None:
    service = Service(name="flink-taskmanager", command=("x",), check=fails, url="http://127.0.0.1:8081")
    row = service_status(Settings(_env_file=None, home=tmp_path), service, None)
    for width in (80, 160):
        console = Console(width=width, record=True, quiet=False, file=(tmp_path / "out").open("w"))
        console.print(status_table([row], width))
        console.file.close()
        text = console.export_text()
        assert "flink-taskmanager" in text and "down" in text and "no supervisor" in text
        assert max(map(len, text.splitlines())) <= width


def test_text_is_cut_to_one_line() -> None:
    assert one_line("a\n  b\tc", 10) == "a b c"
    assert one_line("abcdef", 4) == "abc…"


@pytest.mark.parametrize(("seconds", "text"), [(5, "5s"), (65, "1m05s"), (7260, "2h01m")])
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_notes_are_asked_of_a_healthy_service_alone_and_cost_it_nothing_where_they_fail(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, home=tmp_path)

    def notes_of(check: Callable[[], None], notes: Callable[[], list[str]]) -> tuple[str, ...]:
        found = service_status(settings, Service(name="one", check=check, notes=notes), None)
        assert found.state is (State.HEALTHY if check is passes else State.UNREACHABLE)
        return found.notes

    assert notes_of(passes, lambda: ["do this"]) == ("do this",)
    assert notes_of(fails, lambda: ["do this"]) == ()
    assert notes_of(passes, lambda: breaks() or []) == ("what there is to know can't be told: 'slots'",)
