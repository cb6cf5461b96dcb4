from __future__ import annotations

import configparser
from pathlib import Path

import pytest
from supervisor.datatypes import dict_of_key_value_pairs

from include.config import Settings
from include.platform.service import Service
from include.platform.supervisor import SOCKET_PATH_LIMIT, configuration, socket_path


def make(name: str = "one", **changes: object) -> Service:
    return Service(**{"name": name, "check": lambda: None, "command": ("/bin/echo", "100% of it's", "x"), **changes})


def parse(text: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    return parser


def test_only_our_own_services_become_programs(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, home=tmp_path)
    sections = parse(configuration(settings, [make(), make("elsewhere", command=())])).sections()
    assert [section for section in sections if section.startswith("program:")] == ["program:one"]


def test_values_come_out_as_they_went_in(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, home=tmp_path)
    program = parse(configuration(settings, [make(env={"A": "50 %, or so", "B": 'say "x" now'})]))["program:one"]
    environment = dict_of_key_value_pairs(program["environment"] % {})
    assert environment["A"] == "50 %, or so"
    assert environment["B"] == 'say "x" now'
    assert environment["ATELIER_SERVICE"] == "one"
    assert environment["ATELIER_HOME"] == str(tmp_path)
    assert "100%% of it" in program["command"]


@pytest.mark.parametrize("value", ["two\nlines", "both ' and \" in it", "'quoted'"])
def test_a_value_that_supervisord_would_garble_is_refused(value: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="can't pass"):
        configuration(Settings(_env_file=None, home=tmp_path), [make(env={"A": value})])


def test_a_long_home_gets_a_short_socket(tmp_path: Path) -> None:
    short = socket_path(Settings(_env_file=None, home=Path("/srv/atelier")))
    assert short == Path("/srv/atelier/run/supervisor.sock")
    deep = tmp_path / ("d" * 90)
    long = socket_path(Settings(_env_file=None, home=deep))
    assert len(str(long)) < SOCKET_PATH_LIMIT
    assert long == socket_path(Settings(_env_file=None, home=deep))
    assert long != socket_path(Settings(_env_file=None, home=deep / "x"))
