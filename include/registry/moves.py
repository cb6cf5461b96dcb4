"""What happened to an alias between two looks, from where it was, where it is, and what its movers signed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from include.registry.ledger import AliasMove
from include.registry.signatures import Signature

AT_ONCE_S = 5.0  #: movers this close together may both have moved it from the same version
SURE_S = 10.0  #: between looks this close together nobody moves an alias to and fro unsigned
CANT_KNOW = "not signed, as moves in the MLflow UI are; whether there were others in between can't be known"


@dataclass(frozen=True, kw_only=True)
class Look:
    """Where an alias was known to be, and where it was found now."""

    model: str
    alias: str
    before: str | None
    after: str | None
    last_look: float | None  #: seconds since 1970; None: the first
    now: float


def moves_between(look: Look, signatures: Sequence[Signature]) -> list[AliasMove]:
    """The moves since the last look, oldest first.

    Signed moves are placed one after the other; where one begins elsewhere than the one before it ended, somebody moved the alias
    unsigned in between. From where the last one ended to where the alias is now is another such move.

    :param signatures: those that are not in the ledger yet, in order
    """
    found: list[AliasMove] = []
    at, since, previous = look.before, look.last_look, None
    for signature in signatures:
        if not signature.took_effect(look.after):
            continue
        if signature.from_version != at and not _at_once(previous, signature):
            found.append(_unsigned(look, at, signature.from_version, since, signature.at))
            at = signature.from_version
        found.append(_signed(look, at, signature))
        at, since, previous = signature.to_version, signature.at, signature
    if at != look.after:
        found.append(_unsigned(look, at, look.after, since, None))
    return found


def with_stop(look: Look, moves: Sequence[AliasMove], version: str | None) -> list[AliasMove]:
    """``moves`` of an alias that was also found at ``version`` between the looks: where none leads there, it went there unsigned on the way
    of the last unsigned move, or after all of them and back."""
    if version in {look.before, *(move.to_version for move in moves)}:
        return list(moves)
    unsigned = [index for index, move in enumerate(moves) if move.signature is None]
    index = unsigned[-1] if unsigned else len(moves)
    last_signed = max((move.moved_at for move in moves if move.moved_at is not None), default=look.last_look)
    gap = moves[index] if unsigned else _unsigned(look, look.after, look.after, last_signed, None)
    there, onward = gap.model_copy(update={"to_version": version}), gap.model_copy(update={"from_version": version})
    return [*moves[:index], there, onward, *moves[index + 1 :]]


def _at_once(previous: Signature | None, signature: Signature) -> bool:
    return previous is not None and signature.from_version == previous.from_version and signature.at - previous.at < AT_ONCE_S


def _signed(look: Look, at: str | None, signature: Signature) -> AliasMove:
    return AliasMove(
        at=look.now,
        moved_at=signature.at,
        by=signature.by,
        why=signature.why,
        model=look.model,
        alias=look.alias,
        from_version=at,
        to_version=signature.to_version,
        signature=signature.id,
    )


def _unsigned(look: Look, before: str | None, after: str | None, since: float | None, until: float | None) -> AliasMove:
    known = since is not None and (until or look.now) - since <= SURE_S
    return AliasMove(
        at=look.now,
        not_before=since,
        not_after=until,
        note="" if known else CANT_KNOW,
        model=look.model,
        alias=look.alias,
        from_version=before,
        to_version=after,
    )
