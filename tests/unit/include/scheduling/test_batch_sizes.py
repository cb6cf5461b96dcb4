from __future__ import annotations

import pytest

from include.scheduling.batch_sizes import MAX_KINDS, RETRY_AFTER, BatchSizes

SHAPE = ("emoji", 64, 64, 8, True, "")
KIND = ("emoji/1", SHAPE, "standard")


@pytest.fixture
def sizes() -> BatchSizes:
    return BatchSizes()


def teach(sizes: BatchSizes, **each_s: float) -> None:
    """What each request cost by size of its batch, as ``n4=0.2``."""
    for _ in range(5):
        for name, cost in each_s.items():
            sizes.observe(KIND, int(name[1:]), cost)


def test_an_unknown_shape_may_fill_the_worker(sizes: BatchSizes) -> None:
    assert sizes.cap(KIND, 8) == 8


def test_a_size_that_makes_each_cheaper_is_kept(sizes: BatchSizes) -> None:
    teach(sizes, n1=1.0, n2=0.6, n4=0.4)
    assert sizes.cap(KIND, 8) == 8
    assert sizes.cap(KIND, 2) == 2


def test_a_size_that_does_not_is_left(sizes: BatchSizes) -> None:
    teach(sizes, n1=1.0, n2=0.6, n4=0.6)
    assert sizes.cap(KIND, 8) == 2


def test_large_images_run_alone(sizes: BatchSizes) -> None:
    teach(sizes, n1=1.0, n2=1.02)
    assert sizes.cap(KIND, 8) == 1
    assert sizes.cap(("emoji/1", SHAPE, "premium"), 8) == 8


def test_what_was_left_is_tried_again_after_a_while(sizes: BatchSizes) -> None:
    teach(sizes, n1=1.0, n2=1.1)
    for _ in range(RETRY_AFTER):
        sizes.observe(KIND, 1, 1.0)
    assert sizes.cap(KIND, 8) == 8


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
def test_nonsense_teaches_nothing(sizes: BatchSizes, wrong: float) -> None:
    sizes.observe(KIND, 2, wrong)
    assert not list(sizes.changed())


def test_it_is_what_was_written(sizes: BatchSizes) -> None:
    teach(sizes, n1=1.0, n2=0.6, n4=0.6)
    again = BatchSizes()
    for key, value in sizes.changed():
        again.restore(key, value)
    assert again.cap(KIND, 8) == 2
    assert not list(sizes.changed())


def test_what_the_release_before_wrote_is_read(sizes: BatchSizes) -> None:
    sizes.restore('["emoji/1", ["emoji", 64, 64, 8, true], "standard"]', "[5, [[1, 1.0], [2, 1.02]]]")
    assert sizes.cap(KIND, 8) == 1


def test_kinds_are_bounded(sizes: BatchSizes) -> None:
    for number in range(2 * MAX_KINDS):
        sizes.observe((f"m/{number}", SHAPE, "standard"), 1, 1.0)
    assert len(sizes._kinds) == MAX_KINDS
