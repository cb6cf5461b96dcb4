from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from include.gateway.edge.cli import app
from include.gateway.edge.keys import (
    EdgeCaller,
    create_edge_key,
    edge_keys_path,
    ensure_edge_keys,
    is_expired,
    read_edge_keys,
    revoke_edge_keys,
    stored_edge_keys,
)
from include.gateway.keys import KeyRing

PARIS = EdgeCaller(workers="paris-*", pool="edge")


def touch_later(path: Path) -> None:
    later = path.stat().st_mtime_ns + 1_000_000_000
    os.utime(path, ns=(later, later))


def test_a_credential_is_known_at_once_and_kept_as_its_digest_only(tmp_path: Path) -> None:
    ring = KeyRing(ensure_edge_keys(tmp_path), read_edge_keys)
    assert ring.caller("anything") is None
    key = create_edge_key(tmp_path, PARIS)
    touch_later(edge_keys_path(tmp_path))
    assert ring.caller(key) == PARIS
    assert key not in edge_keys_path(tmp_path).read_text()
    assert stat.S_IMODE(edge_keys_path(tmp_path).stat().st_mode) == 0o600


def test_a_credential_that_is_taken_back_is_nobodys(tmp_path: Path) -> None:
    ring = KeyRing(ensure_edge_keys(tmp_path), read_edge_keys)
    kept = create_edge_key(tmp_path, EdgeCaller(workers="rome-1", pool="edge"))
    taken = create_edge_key(tmp_path, PARIS)
    assert (revoke_edge_keys(tmp_path, "paris-*"), revoke_edge_keys(tmp_path, "paris-*")) == (1, 0)
    touch_later(edge_keys_path(tmp_path))
    assert ring.caller(taken) is None
    assert ring.caller(kept) is not None


@pytest.mark.parametrize(
    ("workers", "worker_id", "allowed"),
    [
        ("paris-1", "paris-1", True),
        ("paris-1", "paris-10", False),
        ("paris-*", "paris-10", True),
        ("paris-*", "paris", False),
        ("paris-*", "xparis-1", False),
    ],
)
def test_a_credential_speaks_for_its_workers_only(workers: str, worker_id: str, allowed: bool) -> None:
    assert EdgeCaller(workers=workers, pool="edge").may_be(worker_id) is allowed


@pytest.mark.parametrize("workers", ["", "*", "a*b", "a b", "../x", "-a"])
def test_a_pattern_names_at_least_the_beginning_of_a_worker_id(workers: str) -> None:
    with pytest.raises(ValidationError):
        EdgeCaller(workers=workers, pool="edge")


def test_a_credential_ends_at_its_time() -> None:
    caller = EdgeCaller(workers="w", pool="edge", expires_at=100.0)
    assert not is_expired(caller, now=100.0)
    assert is_expired(caller, now=100.1)
    assert not is_expired(PARIS, now=1e10)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from include.config import Settings

    monkeypatch.setattr("include.config.settings", lambda: Settings(_env_file=None, home=tmp_path))
    return tmp_path


def test_the_command_writes_a_file_that_only_its_owner_reads(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "credential"
    made = CliRunner().invoke(app, ["create", "paris-*", "--days", "3", "--out", str(out)])
    assert made.exit_code == 0, made.output
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    (stored,) = stored_edge_keys(home)
    assert read_edge_keys(edge_keys_path(home))[stored.sha256].workers == "paris-*"
    assert out.read_text().strip() not in made.output
    assert "paris-* of pool edge until" in CliRunner().invoke(app, ["list"]).output
    again = CliRunner().invoke(app, ["create", "paris-*", "--out", str(out)])
    assert again.exit_code == 2 and "File exists" in again.output
    assert [CliRunner().invoke(app, ["revoke", "paris-*"]).exit_code for _ in range(2)] == [0, 1]


def test_the_command_refuses_a_pattern_that_is_none(home: Path) -> None:
    refused = CliRunner().invoke(app, ["create", "pa ris"])
    assert refused.exit_code == 2 and "workers" in refused.output
    assert stored_edge_keys(home) == ()
