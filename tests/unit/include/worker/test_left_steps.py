from __future__ import annotations

from typing import Any

import pytest

from include.contracts.dispatch import Revoke
from models.pipelines.interruption import make_interruptible, outer_blocks
from tests.support.leases import lease_of, render_task
from tests.support.tiny_pipeline import tiny_pipeline
from tests.unit.include.worker.conftest import Bench


@pytest.mark.parametrize("mate", [False, True], ids=["alone", "with a mate"])
def test_a_cancellation_within_a_step_ends_it_unless_a_mate_needs_it(bench: Bench, mate: bool) -> None:
    pipeline = tiny_pipeline(inner_depth=4)
    make_interruptible(pipeline.network)
    cancelled, kept = render_task(steps=3), render_task(steps=3)
    work = lease_of(cancelled, *([kept] if mate else []), expires_at=bench.now + 30)
    revocation = Revoke(lease_id=work.lease_id, worker_id="worker-0", pool="standard", request_ids=(cancelled.request_id,))
    blocks: list[int] = []

    def within_the_second_step(block: Any, arguments: Any) -> None:
        blocks.append(len(arguments[0]))
        if len(blocks) == len(list(outer_blocks(pipeline.network))) + 2:
            bench.leases.revoke(revocation)

    for block in outer_blocks(pipeline.network):
        block.register_forward_pre_hook(within_the_second_step)
    bench.pipeline = pipeline  # type: ignore[assignment]
    bench.execute(work)
    assert bench.completed.keys() == ({kept.request_id} if mate else set()) and not bench.failed
    assert len(blocks) == (3 * 6 if mate else 6 + 2), "the cancelled step was left after the block that ran"
