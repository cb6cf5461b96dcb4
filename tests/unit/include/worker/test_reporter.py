from __future__ import annotations

from include.contracts.workers import Credit
from include.worker.reporter import CREDITS_ON_THEIR_WAY, BusyMeter
from tests.support.leases import lease_of, render_task
from tests.unit.include.worker.conftest import Bench


def credits(bench: Bench) -> list[Credit]:
    return [message for message in bench.sent.messages if isinstance(message, Credit)]


def test_credit_states_the_whole_account(bench: Bench) -> None:
    lease = lease_of(render_task(), expires_at=bench.now + 30)
    bench.leases.offer(lease)
    bench.reporter.credit()
    assert (credits(bench)[-1].slots, credits(bench)[-1].held) == (2, (lease.lease_id,))
    bench.reporter.draining = True
    bench.reporter.credit()
    assert credits(bench)[-1].slots == 0


def test_a_delivered_heartbeat_renews_what_it_names(bench: Bench) -> None:
    lease = lease_of(render_task(), expires_at=bench.now + 30)
    bench.leases.offer(lease)
    bench.now += 20
    bench.reporter.credit()
    bench.now += 20
    assert not bench.leases.expired(lease.lease_id)
    bench.now += 20
    assert bench.leases.expired(lease.lease_id)


def test_a_heartbeat_does_not_renew_what_has_begun(bench: Bench) -> None:
    lease = lease_of(render_task(), expires_at=bench.now + 30)
    bench.leases.offer(lease)
    bench.leases.start(lease.lease_id)
    bench.now += 20
    bench.reporter.credit()
    bench.now += 11
    assert bench.leases.expired(lease.lease_id)


def test_heartbeats_do_not_pile_up_while_the_broker_is_away(bench: Bench) -> None:
    bench.sent.away = True
    for _ in range(100):
        bench.reporter.credit(heartbeat=True)
    assert len(credits(bench)) == CREDITS_ON_THEIR_WAY
    assert bench.reporter.delivered_at is None


def test_busy_time_is_a_share_of_the_time_between_two_questions() -> None:
    now = 0.0
    meter = BusyMeter(clock=lambda: now)
    now = 1.0
    meter.begin()
    now = 4.0
    assert meter.share() == 0.75  # still rendering
    now = 5.0
    meter.end()
    now = 6.0
    assert meter.share() == 0.5
    now = 7.0
    assert meter.share() == 0.0
