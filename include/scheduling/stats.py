"""Counts and levels of one cell, as the metrics show them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from include.contracts.errors import ReasonCode
from include.contracts.events import Admission, Lane, State


@dataclass
class Stats:
    """Counts since the start of this scheduler; a restore starts them anew."""

    dispatches: Counter[Lane] = field(default_factory=Counter)  #: requests handed to a worker, by lane
    admissions: Counter[Admission] = field(default_factory=Counter)  #: what became of requests at the door
    outcomes: Counter[State] = field(default_factory=Counter)  #: terminal states
    reasons: Counter[ReasonCode] = field(default_factory=Counter)  #: why requests were refused, retried, failed, cancelled or expired
    retries: int = 0
    share_moves: int = 0
    fenced: int = 0  #: results of leases that no longer counted
    dead_letters: int = 0
