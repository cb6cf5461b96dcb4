from __future__ import annotations

import numpy as np
import pytest

from include.evaluation.distances import kernel_distance, kernel_distance_error, own_image_rate

DRAW = np.random.default_rng(0)
FIRST, SECOND, SHIFTED = DRAW.normal(size=(200, 16)), DRAW.normal(size=(200, 16)), DRAW.normal(1, 1, size=(200, 16))


def test_one_distribution_is_near_zero_and_another_is_not() -> None:
    error = kernel_distance_error(FIRST, SECOND)
    assert abs(kernel_distance(FIRST, SECOND)) < 4 * error
    assert kernel_distance(FIRST, SHIFTED) > 10 * error > 0


def test_the_estimate_is_unbiased() -> None:
    draw = np.random.default_rng(1)
    distances = [kernel_distance(draw.normal(size=(20, 4)), draw.normal(size=(20, 4))) for _ in range(300)]
    assert abs(np.mean(distances)) < 3 * np.std(distances) / 300**0.5


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="two images a side"):
        kernel_distance(FIRST[:1], SECOND)
    assert kernel_distance_error(FIRST[:3], SECOND) == 0


def test_own_image_rate_counts_places() -> None:
    reference = np.eye(4)
    assert own_image_rate(reference, reference) == 1
    assert own_image_rate(reference[[1, 0, 2, 3]], reference) == 0.5
    assert own_image_rate(reference[[1, 0, 3, 2]], reference, nearest=4) == 1


def test_pairs_that_depend_on_each_other_leave_the_estimate_unbiased() -> None:
    draw = np.random.default_rng(2)
    copies = [draw.normal(size=(20, 4)) for _ in range(300)]
    paired = [kernel_distance(rows, rows, paired=True) for rows in copies]
    assert paired == pytest.approx([0.0] * 300, abs=1e-9)
    assert np.mean([kernel_distance(rows, rows) for rows in copies]) < -0.1
    assert kernel_distance_error(copies[0], copies[0], paired=True) == pytest.approx(0, abs=1e-9)
