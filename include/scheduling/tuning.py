"""What the scheduler does where the policy table says nothing: periods, limits, the backoff."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

HEARTBEAT_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Constants of one cell. Times in seconds."""

    silent_after_s: float = 3 * HEARTBEAT_S  #: a worker not heard for this long gets no new lease
    lost_after_s: float = 3 * HEARTBEAT_S  #: a lease this old that its worker does not report was lost on its way
    waiting_renewals: int = 20  #: lease terms that a held but not started lease is renewed by heartbeats alone
    retry_base_s: float = 0.5  #: first backoff; doubles with each failure
    retry_cap_s: float = 30.0
    progress_every_s: float = 0.5  #: at most one progress event of a request in this time
    id_window_s: float = 24 * 3600.0  #: how long a request id is remembered after its acceptance
    max_ids: int = 200_000  #: ids remembered at most; the oldest finished ones go first
    control_grace_s: float = 5.0  #: a fresh start waits this long for the control topic before it calls a model unknown
    early_cancel_s: float = 60.0  #: how long a cancellation waits for its request
    max_early_cancels: int = 10_000  #: that wait at most; the oldest is forgotten first
    affinity_lookahead: int = 16  #: workers with room looked at for one that has the model loaded
    model_switch_s: float = 5.0  #: what loading a model costs a worker that has another
    switch_patience_s: float = 120.0  #: how long the version before goes on where nobody has loaded the new one
    affinity_heads: int = 8  #: tenants' heads looked at for one whose model a cold worker has loaded
    affinity_passes: int = 4  #: times that a head lets others go before it for that
    shares_every_s: float = 5.0  #: shares of lanes move at most this often
    learn_every_s: float = 0.005  #: at most one completion in this time teaches what things cost; more would teach little
    learned_every_s: float = 5.0  #: what was learned is written at most this often


def retry_delay_s(tuning: Tuning, request_id: str, failures: int) -> float:
    """Exponential backoff with ±25 % jitter that depends on the request alone, so that a restored scheduler waits the same."""
    delay = min(tuning.retry_cap_s, tuning.retry_base_s * 2.0 ** (failures - 1))
    spread = int.from_bytes(sha256(f"{request_id}:{failures}".encode()).digest()[:4], "big") / 2**32
    return delay * (0.75 + 0.5 * spread)
