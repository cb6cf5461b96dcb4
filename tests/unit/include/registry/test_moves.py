"""What is made of where an alias was, where it is, and what was signed in between."""

from __future__ import annotations

from include.registry.moves import CANT_KNOW, Look, moves_between, with_stop
from include.registry.signatures import Signature, signatures_of, signed_aliases

NOW = 1000.0


def signed(before: str | None, after: str | None, at: float, *, done: bool = True, by: str = "ann") -> Signature:
    return Signature(alias="champion", by=by, why="so", at=at, from_version=before, to_version=after, done=done)


def moves(before: str | None, after: str | None, *signatures: Signature, last_look: float | None = 100.0) -> list[tuple[str | None, ...]]:
    look = Look(model="emoji", alias="champion", before=before, after=after, last_look=last_look, now=NOW)
    return [(move.from_version, move.to_version, move.by) for move in moves_between(look, signatures)]


def test_nothing_moved() -> None:
    assert moves("1", "1") == []


def test_each_signed_move_of_a_while_is_known() -> None:
    found = moves("1", "1", signed("1", "2", 200), signed("2", "3", 300, by="bob"), signed("3", "1", 400))
    assert found == [("1", "2", "ann"), ("2", "3", "bob"), ("3", "1", "ann")]


def test_unsigned_moves_before_between_and_after_show_as_gaps() -> None:
    found = moves("1", "9", signed("2", "3", 200), signed("4", "5", 300))
    assert found == [("1", "2", "unknown"), ("2", "3", "ann"), ("3", "4", "unknown"), ("4", "5", "ann"), ("5", "9", "unknown")]


def test_an_unsigned_move_tells_its_bounds_and_what_can_not_be_known() -> None:
    look = Look(model="emoji", alias="champion", before="1", after="4", last_look=100.0, now=NOW)
    first, _, last = moves_between(look, [signed("2", "3", 200)])
    assert (first.not_before, first.not_after, first.note) == (100.0, 200.0, CANT_KNOW)
    assert (last.not_before, last.not_after, last.note) == (200.0, None, CANT_KNOW)


def test_between_two_looks_in_a_row_one_unsigned_move_is_all() -> None:
    look = Look(model="emoji", alias="champion", before="1", after="2", last_look=NOW - 1, now=NOW)
    (found,) = moves_between(look, [])
    assert (found.by, found.note, found.not_before) == ("unknown", "", NOW - 1)


def test_a_signed_move_that_was_not_made_is_none() -> None:
    assert moves("1", "1", signed("1", "2", 200, done=False)) == []


def test_a_mover_that_died_after_the_move_has_made_it() -> None:
    assert moves("1", "2", signed("1", "2", 200, done=False)) == [("1", "2", "ann")]


def test_two_movers_at_once_make_no_gap() -> None:
    assert moves("1", "3", signed("1", "2", 200.0), signed("1", "3", 200.4, by="bob")) == [("1", "2", "ann"), ("2", "3", "bob")]


def test_an_alias_that_is_taken_away_and_put_back() -> None:
    assert moves("1", "1", signed("1", None, 200), signed(None, "1", 300)) == [("1", None, "ann"), (None, "1", "ann")]


def test_without_a_ledger_the_history_in_mlflow_is_taken_over() -> None:
    assert moves(None, "3", signed("2", "3", 300), last_look=None) == [(None, "2", "unknown"), ("2", "3", "ann")]


def test_a_signature_survives_its_tag_and_others_are_not_taken_for_one() -> None:
    one, other = signed("1", None, 5), signed(None, "2", 3)
    tags = {each.tag: each.to_value() for each in (one, other)}
    tags |= {"atelier.moved.champion.junk": "{}", "atelier.moved.champion2.x": one.to_value(), "atelier.serve": "true"}
    assert signatures_of(tags, "champion") == [other, one]
    assert signed_aliases(tags) == {"champion", "champion2"}


def stopped(before: str | None, after: str | None, version: str | None, *signatures: Signature) -> list[tuple[str | None, ...]]:
    look = Look(model="emoji", alias="champion", before=before, after=after, last_look=100.0, now=NOW)
    found = with_stop(look, moves_between(look, signatures), version)
    return [(move.from_version, move.to_version, move.by) for move in found]


def test_where_the_alias_was_seen_on_the_way_is_a_move_of_its_own() -> None:
    assert stopped("2", None, "1") == [("2", "1", "unknown"), ("1", None, "unknown")]
    assert stopped("2", "2", "1") == [("2", "1", "unknown"), ("1", "2", "unknown")]
    assert stopped("2", "5", "1", signed("4", "5", 300)) == [("2", "1", "unknown"), ("1", "4", "unknown"), ("4", "5", "ann")]
    assert stopped("2", "3", "1", signed("2", "3", 300)) == [("2", "3", "ann"), ("3", "1", "unknown"), ("1", "3", "unknown")]


def test_where_the_moves_lead_anyway_adds_none() -> None:
    assert stopped("1", "3", "2", signed("1", "2", 200), signed("2", "3", 300)) == [("1", "2", "ann"), ("2", "3", "ann")]
    assert stopped("1", "2", "1") == [("1", "2", "unknown")]
