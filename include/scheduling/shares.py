"""Lane shares that follow what is measured: who waits too long is lent share by who does not."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from include.contracts.events import Lane
from include.scheduling.decayed import DecayedQuantile
from include.scheduling.timers import is_due

STEP = 0.05  #: moves at a time at most
TIGHT = 1.2  #: wait over objective above which a lane borrows share
EASY = 0.8  #: below which a lane is well; above it, it wants back what it lent
AMPLE = 0.5  #: below which it lends
LEAST_OF_BASE = {Lane.HIGH: 0.5, Lane.NORMAL: 1.0, Lane.LOW: 1.0}  #: least share, by the base
MOST_OF_BASE, MOST = 3.0, 0.8  #: most share, by the base and at all
WAIT_QUANTILE = 0.9

_LEAST_MOVE = 0.001
_TAU_S = 30.0
_USED_TAU_S = 60.0
_DIGITS = 9


@dataclass(frozen=True, slots=True)
class SharesMove:
    """Shares before and after, and what was measured that moved them."""

    before: dict[Lane, float]
    after: dict[Lane, float]
    reason: str


@dataclass(frozen=True, slots=True)
class _Measured:
    """What one decision is made from."""

    waits: dict[Lane, float]
    objectives: Mapping[Lane, float]
    ratios: dict[Lane, float] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ratios", {lane: self.waits[lane] / self.objectives[lane] for lane in Lane})

    def words(self, *lanes: Lane) -> str:
        return "; ".join(f"{lane} waits {_seconds(self.waits[lane])} against {_seconds(self.objectives[lane])}" for lane in lanes)


class ShareControl:
    """Moves the guaranteed shares of the lanes, a little at a time.

    What a floor is worth depends on the lane, because :class:`include.scheduling.lanes.Lanes` serves by strict priority and a floor only
    bites when its lane is owed:

    - A lane's rise is time that the lanes above it lose once they are backlogged; a lane that gets more than its floor by priority
      already wins nothing by a higher one. So only a lane that its floor holds up borrows: one that was dispatched no more than its share
      and :data:`STEP` of the device time. Mostly that is the low lane, and what it borrows is normal's time.
    - The floor of the high lane is mostly idle: with priority it gets all that the others are not owed, 1 - normal - low. As the sum is
      kept, by the default policy that is more than its base even with half its own floor lent. So it lends first.
    - The floor of a lower lane may be all it has, and the policy promises it. So the others lend nothing of their base, only what
      they borrowed (:data:`LEAST_OF_BASE`).

    The wait of a lane is the decayed 90 % quantile of the waits of what was dispatched, or the wait of the oldest that still waits, if that
    is longer. By its ratio to the lane's objective:

    - above :data:`EASY`, a lane that lent takes it back from who is above their base, even if they need it too;
    - above :data:`TIGHT`, a lane that pays for what another borrowed makes it go back, if that one is below :data:`EASY`;
    - above :data:`TIGHT`, a lane that its floor holds up borrows from the first by priority that is below :data:`AMPLE`;
    - with every lane below :data:`EASY`, the shares drift back to the base;
    - in between nothing moves.

    A share is at most three times its base and :data:`MOST`; the sum stays that of the base.

    :param every_s: seconds between two moves at least
    """

    def __init__(self, every_s: float = 5.0) -> None:
        self.every_s = every_s
        self._base: dict[Lane, float] = {}
        self._shares: dict[Lane, float] = {}
        self._moved_at = -math.inf
        self._waits = {lane: DecayedQuantile(_TAU_S) for lane in Lane}
        self._used = dict.fromkeys(Lane, 0.0)
        self._used_at = 0.0

    @property
    def shares(self) -> dict[Lane, float]:
        """As they are now; empty before the first update."""
        return dict(self._shares)

    def observe(self, lane: Lane, waited_s: float, now: float, device_s: float = 0.0) -> None:
        """A request of the lane was dispatched, which takes so many device seconds.

        Without device seconds of any lane, each counts as held up by its floor.
        """
        self._waits[lane].add(waited_s, now)
        kept = math.exp(min(0.0, self._used_at - now) / _USED_TAU_S)
        self._used = {each: used * kept for each, used in self._used.items()}
        self._used[lane] += device_s
        self._used_at = max(now, self._used_at)

    def update(
        self, backlog_oldest_s: Mapping[Lane, float], base: Mapping[Lane, float], objectives: Mapping[Lane, float], now: float
    ) -> SharesMove | None:
        """The next move, None where nothing moves. A base other than last time takes effect at once.

        :param backlog_oldest_s: how long the oldest that waits has waited, by lane; a lane left out is empty
        """
        if dict(base) != self._base:
            return self._start_from(base)
        if not is_due(now, self._moved_at, self.every_s):
            return None
        measured = _Measured(self._measure(backlog_oldest_s, now), objectives)
        move = self._take_back(measured) or self._lend(measured) or self._drift(measured)
        if move is not None:
            self._shares, self._moved_at = dict(move.after), now
        return move

    def _start_from(self, base: Mapping[Lane, float]) -> SharesMove | None:
        before, self._base, self._shares = self._shares, dict(base), dict(base)
        if not before or before == self._shares:
            return None
        return SharesMove(before, self.shares, "the policy sets other shares")

    def _measure(self, backlog_oldest_s: Mapping[Lane, float], now: float) -> dict[Lane, float]:
        dispatched = {lane: self._waits[lane].quantile(WAIT_QUANTILE, now) or 0.0 for lane in Lane}
        return {lane: max(dispatched[lane], backlog_oldest_s.get(lane, 0.0)) for lane in Lane}

    def _take_back(self, measured: _Measured) -> SharesMove | None:
        """For the first lane by priority that lent and now needs it, else for one that pays for what another borrowed."""
        ratios = measured.ratios
        borrowed = {lane: over for lane in Lane if (over := self._shares[lane] - self._base[lane]) >= _LEAST_MOVE}
        lent = {lane: under for lane in Lane if (under := self._base[lane] - self._shares[lane]) >= _LEAST_MOVE}
        for taker, under in lent.items():
            for giver in sorted(borrowed, key=ratios.__getitem__):
                for_whom = taker if ratios[taker] > EASY else self._payer(giver, ratios)
                if for_whom is not None:
                    words = measured.words(for_whom, giver)
                    return self._move(giver, taker, min(STEP, under, borrowed[giver]), words, "moves back")
        return None

    def _payer(self, borrower: Lane, ratios: Mapping[Lane, float]) -> Lane | None:
        """A lane that waits too long, though it gets more than its floor, while the borrower is well."""
        if ratios[borrower] >= EASY:
            return None
        return next((lane for lane in Lane if ratios[lane] > TIGHT and not self._is_held_up(lane)), None)

    def _lend(self, measured: _Measured) -> SharesMove | None:
        """To the lane with the longest wait by its objective, from the highest that can spare it."""
        ratios = measured.ratios
        held_up = [lane for lane in Lane if ratios[lane] > TIGHT and self._is_held_up(lane)]
        givers = [lane for lane in Lane if ratios[lane] < AMPLE]
        for lane in sorted(held_up, key=ratios.__getitem__, reverse=True):
            for giver in givers:
                amount = min(STEP, self._spare(giver), self._room(lane))
                if amount >= _LEAST_MOVE:
                    return self._move(giver, lane, amount, measured.words(lane, giver), "moves")
        return None

    def _is_held_up(self, lane: Lane) -> bool:
        """Whether it got little more than its share of the device time lately."""
        total = sum(self._used.values())
        return total <= 0 or self._used[lane] / total <= self._shares[lane] + STEP

    def _spare(self, lane: Lane) -> float:
        return self._shares[lane] - LEAST_OF_BASE[lane] * self._base[lane]

    def _room(self, lane: Lane) -> float:
        base = self._base[lane]
        return max(base, min(MOST_OF_BASE * base, MOST)) - self._shares[lane]

    def _move(self, giver: Lane, taker: Lane, amount: float, measured: str, verb: str) -> SharesMove:
        after = self.shares
        after[giver] = round(after[giver] - amount, _DIGITS)
        after[taker] = round(after[taker] + amount, _DIGITS)
        return SharesMove(self.shares, after, f"{measured}: {_share(amount)} {verb} from {giver} to {taker}")

    def _drift(self, measured: _Measured) -> SharesMove | None:
        away = max(abs(self._base[lane] - self._shares[lane]) for lane in Lane)
        if away < 10**-_DIGITS or max(measured.ratios.values()) >= EASY:
            return None
        part = min(1.0, STEP / away)
        after = {lane: round(share + part * (self._base[lane] - share), _DIGITS) for lane, share in self._shares.items()}
        if part == 1.0:
            after = dict(self._base)
        return SharesMove(self.shares, after, f"{measured.words(*Lane)}: {_share(away * part)} drifts back")

    def encode(self) -> str:
        content = {
            "base": self._base,
            "shares": self._shares,
            "moved_at": self._moved_at if math.isfinite(self._moved_at) else None,
            "used": self._used,
            "used_at": self._used_at,
            "waits": {lane: waits.encode() for lane, waits in self._waits.items()},
        }
        return json.dumps(content)

    def restore(self, text: str) -> None:
        """Raises :class:`ValueError` or :class:`KeyError` for what :meth:`encode` did not write."""
        content = json.loads(text)
        self._base = {Lane(name): share for name, share in content["base"].items()}
        self._shares = {Lane(name): share for name, share in content["shares"].items()}
        self._moved_at = -math.inf if content["moved_at"] is None else content["moved_at"]
        self._used = {Lane(name): used for name, used in content["used"].items()}
        self._used_at = content["used_at"]
        for name, waits in content["waits"].items():
            self._waits[Lane(name)].restore(waits)


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 10 else f"{value:.2g} s"


def _share(value: float) -> str:
    return f"{value:.3f}".rstrip("0")
