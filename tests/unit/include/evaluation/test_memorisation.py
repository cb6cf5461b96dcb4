from __future__ import annotations

import numpy as np
import pytest

from include.evaluation.memorisation import memorisation

DRAW = np.random.default_rng(0)
TRAIN, HELD_OUT = DRAW.normal(size=(300, 16)), DRAW.normal(size=(100, 16))


def test_copies_are_found_with_their_originals() -> None:
    copies = TRAIN[[7, 3, 250]] + 0.01
    found = memorisation(copies, TRAIN, HELD_OUT)
    assert found.nearest.tolist() == [7, 3, 250]
    assert found.share == 1
    assert found.distances == pytest.approx([0.01] * 3)


def test_new_images_count_as_rarely_as_the_quantile_says() -> None:
    new = np.random.default_rng(1).normal(size=(1000, 16))
    found = memorisation(new, TRAIN, HELD_OUT, quantile=0.1)
    assert 0.03 < found.share < 0.2
    assert memorisation(HELD_OUT, TRAIN, HELD_OUT, quantile=0.1).share == pytest.approx(0.1)


def test_nothing_found_among_few_is_not_certain() -> None:
    assert memorisation(HELD_OUT[:4] + 9, TRAIN, HELD_OUT).share == 0
    assert memorisation(HELD_OUT[:4] + 9, TRAIN, HELD_OUT).share_error > 0.1
