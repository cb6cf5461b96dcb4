"""What the recorder writes where the registry changes under its eyes; with MLflow itself: ``tests/integration/registry``."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import create_autospec

from include.registry.client import RegisteredModel, RegistryClient
from include.registry.ledger import AliasLedger
from include.registry.recorder import MoveRecorder
from include.registry.signatures import Signature

NOW = 1000.0


def at(version: str | None, *signatures: Signature) -> RegisteredModel:
    aliases = {} if version is None else {"champion": version}
    return RegisteredModel(name="emoji", aliases=aliases, tags={each.tag: each.to_value() for each in signatures})


def recorded(tmp_path: Path, listed: RegisteredModel, again: RegisteredModel) -> list[tuple[str | None, ...]]:
    """Moves from version 2 on, where the model that was ``listed`` has become ``again`` a moment later."""
    client = create_autospec(RegistryClient, instance=True)
    recorder = MoveRecorder(AliasLedger(tmp_path / "aliases.jsonl"), client)
    client.model.return_value = at("2")
    recorder.record([at("2")], NOW)
    client.model.return_value = again
    recorder.record([listed], NOW + 1)
    return [(move.from_version, move.to_version, move.by) for move in recorder.ledger.moves()][1:]


def test_a_version_that_was_seen_is_in_the_ledger_though_the_alias_went_on_at_once(tmp_path: Path) -> None:
    assert recorded(tmp_path, at("1"), at(None)) == [("2", "1", "unknown"), ("1", None, "unknown")]


def test_a_signature_that_is_seen_after_its_move_signs_it(tmp_path: Path) -> None:
    signature = Signature(alias="champion", by="ann", why="so", at=NOW + 0.5, from_version="2", to_version="1", done=True)
    assert recorded(tmp_path, at("1"), at("1", signature)) == [("2", "1", "ann")]
