"""A real supervisord over small servers: start in order, restart, and a stop that leaves nothing, whatever was killed before."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from include.config import Settings
from include.platform.http import probe
from include.platform.ports import free_port
from include.platform.processes import end_processes, service_processes
from include.platform.service import Service, State
from include.platform.startup import Startup, StartupError, stop_all
from include.platform.status import status
from include.platform.supervisor import Supervisor, log_path
from tests.support.services import free_settings, is_healthy
from tests.support.waiting import wait_for

SERVER = Path(__file__).with_name("echo_server.py")


def server(name: str, **changes: object) -> Service:
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    command = (sys.executable, str(SERVER), str(port))
    return Service(**{"name": name, "command": command, "check": lambda: probe(url) and None, "url": url, "stop_s": 3, **changes})


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    found = free_settings(tmp_path / "home")
    yield found
    end_processes(found.home, grace_s=0)


def pid_of(settings: Settings, name: str) -> int:
    return Supervisor(settings).info()[name].pid


def stop(settings: Settings) -> None:
    stop_all(settings, lambda _: None)


def test_services_start_after_what_they_need_and_stop_without_a_trace(settings: Settings) -> None:
    order: list[str] = []
    first = server("first", prepare=lambda: order.append("prepare first"), on_healthy=lambda: order.append("first healthy"))
    second = server("second", depends_on=("first",), prepare=lambda: order.append("prepare second"), env={"MARK": "5 % of, it"})
    outside = Service(name="outside", check=lambda: None)
    Startup(settings, [second, first, outside]).run()

    assert order == ["prepare first", "first healthy", "prepare second"]
    rows = {row.name: row for row in status(settings, [first, second, outside])}
    assert {row.state for row in rows.values()} == {State.HEALTHY}
    assert rows["first"].pid and rows["first"].last_log
    environment = json.loads(probe(second.url))
    assert (environment["MARK"], environment["ATELIER_SERVICE"]) == ("5 % of, it", "second")
    assert environment["ATELIER_HOME"] == str(settings.home)

    stop(settings)
    assert service_processes(settings.home) == {}
    assert {row.state for row in status(settings, [first, second])} == {State.DOWN}


def test_a_killed_service_comes_back_without_the_children_of_the_old(settings: Settings) -> None:
    one = server("one")
    Startup(settings, [one]).run()
    pid = pid_of(settings, "one")
    (orphan,) = {found.pid for found in service_processes(settings.home, ["one"])} - {pid}
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: pid_of(settings, "one") not in (0, pid) and is_healthy(one), 20, "a new process answers")
    assert orphan not in {found.pid for found in service_processes(settings.home)}


def test_nothing_is_left_after_a_killed_supervisor(settings: Settings) -> None:
    one = server("one")
    Startup(settings, [one]).run()
    pid = pid_of(settings, "one")
    (supervisord,) = service_processes(settings.home, ["supervisord"])
    supervisord.kill()
    wait_for(lambda: not supervisord.is_running(), 10, "the supervisor is gone")
    assert os.getpgid(pid) == pid  # it lives on, in a group of its own
    assert status(settings, [one])[0].reason.startswith("no supervisor")

    stop(settings)
    assert service_processes(settings.home) == {}


def test_up_after_a_killed_supervisor_starts_afresh(settings: Settings) -> None:
    one = server("one")
    Startup(settings, [one]).run()
    pid = pid_of(settings, "one")
    (supervisord,) = service_processes(settings.home, ["supervisord"])
    supervisord.kill()
    wait_for(lambda: not supervisord.is_running(), 10, "the supervisor is gone")

    Startup(settings, [one]).run()
    assert pid_of(settings, "one") != pid
    probe(one.url)


def test_up_on_top_of_up_leaves_running_services_alone_and_adds_new_ones(settings: Settings) -> None:
    one, two = server("one"), server("two")
    Startup(settings, [one]).run()
    pid = pid_of(settings, "one")
    Startup(settings, [one, two]).run()
    assert pid_of(settings, "one") == pid
    changed = replace(one, env={"MARK": "new"})
    Startup(settings, [changed]).run()
    assert pid_of(settings, "one") != pid
    assert json.loads(probe(one.url))["MARK"] == "new"
    assert "two" not in Supervisor(settings).info()
    assert {name for name in service_processes(settings.home).values()} == {"one", "supervisord"}


def test_a_service_that_can_not_start_is_named_and_the_others_stay_up(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.platform.startup.GIVE_UP_S", 1.0)
    good = server("good")
    bad = server("bad", command=(sys.executable, "-c", "raise SystemExit('no such model')"))
    late = server("late", depends_on=("bad",))
    with pytest.raises(StartupError, match=r"bad: .*no such model") as raised:
        Startup(settings, [good, bad, late]).run()
    assert "late: needs bad" in str(raised.value)
    assert "good" not in str(raised.value)
    states = {row.name: row.state for row in status(settings, [good, bad, late])}
    assert (states["good"], states["late"]) == (State.HEALTHY, State.DOWN)
    assert "no such model" in log_path(settings, "bad").read_text()


def test_a_preparation_that_fails_is_the_reason(settings: Settings) -> None:
    def prepare() -> None:
        raise RuntimeError("the disk is full")

    with pytest.raises(StartupError, match="one: the disk is full"):
        Startup(settings, [server("one", prepare=prepare)]).run()
