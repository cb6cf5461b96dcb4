"""Which samples a step is made of."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from models.training.samples.order import BatchPlan, Block, epoch_indices, window_order

SQUARE, WIDE, TALL = (8, 8), (16, 8), (8, 16)


def blocks_of(**counts: int) -> list[Block]:
    """Blocks of ten rows, by the name of their size."""
    found: list[Block] = []
    for name, count in counts.items():
        for start in range(0, count, 10):
            first = sum(block.rows for block in found)
            size = {"square": SQUARE, "wide": WIDE, "tall": TALL}[name]
            found.append(Block(file=0, group=len(found), first=first, rows=min(10, count - start), size=size))
    return found


def plan_of(batch_size: int, *, seed: int = 1, window: int = 3, left_out: tuple[int, ...] = (), **counts: int) -> BatchPlan:
    blocks = blocks_of(**counts)
    kept = np.ones(sum(block.rows for block in blocks), bool)
    kept[list(left_out)] = False
    return BatchPlan(blocks, kept, batch_size, seed, window)


def test_a_window_is_shuffled_by_its_number() -> None:
    window = [Block(file=0, group=0, first=10, rows=5, size=(8, 8)), Block(file=0, group=3, first=0, rows=5, size=(8, 8))]
    orders = [window_order(window, 1, 0, number).tolist() for number in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]


def test_every_epoch_visits_each_sample_once_in_another_order() -> None:
    plan = plan_of(4, square=10)
    visited = np.concatenate([plan.at(step) for step in range(5)]).tolist()
    assert sorted(visited[:10]) == sorted(visited[10:]) == list(range(10))
    assert visited[:10] != visited[10:]
    assert plan_of(4, square=10, seed=2).at(0).tolist() != visited[:4]


def test_a_step_is_the_same_whatever_was_asked_for_before() -> None:
    walked = plan_of(7, square=45, wide=13, tall=3)
    steps = [walked.at(step).tolist() for step in range(60)]
    assert [plan_of(7, square=45, wide=13, tall=3).at(step).tolist() for step in (59, 3, 40)] == [steps[59], steps[3], steps[40]]


@pytest.mark.parametrize("batch_size", [1, 4, 7, 64, 100])
def test_a_batch_is_full_and_of_one_size_and_every_sample_is_used_as_often(batch_size: int) -> None:
    counts = {"square": 45, "wide": 13, "tall": 3}
    plan = plan_of(batch_size, **counts)
    epochs = 20
    used: Counter[int] = Counter()
    for step in range(epochs * len(plan) // batch_size):
        indices = plan.at(step).tolist()
        assert len(indices) == batch_size
        assert {plan.size_at(step)} == {SQUARE if index < 45 else WIDE if index < 58 else TALL for index in indices}
        used.update(indices)
    # Those of a size that wait for a batch to be full have been used less often: less than a batch's worth.
    for first, count in ((0, 45), (45, 13), (58, 3)):
        waiting = [epochs - used[index] for index in range(first, first + count)]
        assert min(waiting) >= -1 - batch_size // count
        assert sum(waiting) + batch_size >= 0
        assert max(waiting) <= 1 + batch_size // count


def test_samples_that_are_left_out_are_in_no_step() -> None:
    plan = plan_of(4, square=30, left_out=(0, 7, *range(10, 20)))
    assert len(plan) == 18
    assert {index for step in range(9) for index in plan.at(step).tolist()} == set(range(30)) - {0, 7, *range(10, 20)}


def test_what_is_read_for_a_step_lies_within_a_window_or_two() -> None:
    """Of one size, a batch has samples of at most the blocks of two windows."""
    plan = plan_of(8, square=1000, window=4)
    assert max(len({index // 10 for index in plan.at(step).tolist()}) for step in range(120)) <= 8


def test_batches_come_in_the_order_in_which_their_last_samples_do() -> None:
    """So sizes take turns, and no batch is read long before or after what lies around it."""
    plan = plan_of(4, square=40, wide=40, seed=3)
    place = {index: place for place, index in enumerate(epoch_indices(plan.blocks, plan.seed, 0, plan.window).tolist())}
    last = [max(place[index] for index in plan.at(step).tolist()) for step in range(20)]
    assert last == sorted(last)
    assert len({plan.size_at(step) for step in range(6)}) == 2
