from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path

import pytest

from include.contracts.requests import Tier
from include.gateway.keys import Caller, KeyRing, demo_keys, demo_keys_path, digest_of, ensure_keys, keys_path, read_tenant_keys


def test_a_first_start_makes_keys_that_only_the_owner_can_read(tmp_path: Path) -> None:
    ring = KeyRing(ensure_keys(tmp_path), read_tenant_keys)
    keys = demo_keys(tmp_path)
    assert ring.caller(keys["acme"]) == Caller(tenant="acme", tier=Tier.ENTERPRISE)
    assert len(set(keys.values())) == len(keys) >= 3
    for path in (keys_path(tmp_path), demo_keys_path(tmp_path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_key_file_holds_no_key(tmp_path: Path) -> None:
    text = ensure_keys(tmp_path).read_text()
    assert not any(key in text for key in demo_keys(tmp_path).values())


def test_a_second_start_keeps_the_keys(tmp_path: Path) -> None:
    ensure_keys(tmp_path)
    before = demo_keys(tmp_path)
    ensure_keys(tmp_path)
    assert demo_keys(tmp_path) == before


@pytest.mark.parametrize("key", ["", "atelier-", "x" * 10_000, "schlüssel"])
def test_an_unknown_key_is_nobody(tmp_path: Path, key: str) -> None:
    assert KeyRing(ensure_keys(tmp_path), read_tenant_keys).caller(key) is None


def rewrite(path: Path, text: str) -> None:
    path.write_text(text)
    later = path.stat().st_mtime_ns + 1_000_000_000
    os.utime(path, ns=(later, later))


def test_a_changed_file_counts_at_once(tmp_path: Path) -> None:
    path = ensure_keys(tmp_path)
    ring, old = KeyRing(path, read_tenant_keys), demo_keys(tmp_path)["acme"]
    assert ring.caller(old) is not None
    rewrite(path, json.dumps({"keys": [{"tenant": "hooli", "tier": "pro", "sha256": digest_of("new-key")}]}))
    assert ring.caller("new-key") == Caller(tenant="hooli", tier=Tier.PRO)
    assert ring.caller(old) is None


@pytest.mark.parametrize("text", ["", "{", '{"keys": [{"tenant": "a b", "tier": "pro", "sha256": "00"}]}'])
def test_a_broken_file_leaves_the_last_good_one_in_force(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    path = ensure_keys(tmp_path)
    ring, key = KeyRing(path, read_tenant_keys), demo_keys(tmp_path)["acme"]
    assert ring.caller(key) is not None
    rewrite(path, text)
    with caplog.at_level(logging.ERROR):
        assert ring.caller(key) is not None
    assert str(path) in caplog.text
