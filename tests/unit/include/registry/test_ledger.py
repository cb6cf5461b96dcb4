from __future__ import annotations

from pathlib import Path

from include.registry.ledger import AliasLedger, AliasMove


def move(number: int) -> AliasMove:
    return AliasMove(at=float(number), model="emoji", alias="champion", from_version=str(number), to_version=str(number + 1))


def test_moves_are_kept_in_order_and_the_last_one_counts(tmp_path: Path) -> None:
    ledger = AliasLedger(tmp_path / "ledger" / "aliases.jsonl")
    assert ledger.current() == {}
    for number in range(3):
        ledger.append(move(number))
    assert [found.to_version for found in AliasLedger(ledger.path).moves()] == ["1", "2", "3"]
    assert ledger.current()["emoji", "champion"].to_version == "3"


def test_a_line_torn_by_a_crash_costs_that_line_only(tmp_path: Path) -> None:
    ledger = AliasLedger(tmp_path / "aliases.jsonl")
    ledger.append(move(0))
    with ledger.path.open("ab") as file:
        file.write(b'{"at": 1, "mod')
    ledger.append(move(2))
    assert [found.to_version for found in ledger.moves()] == ["1", "3"]
