from __future__ import annotations

import numpy as np
import pytest

from include.evaluation.diversity import mean_pairwise_distance, vendi_score


def test_the_score_counts_different_images() -> None:
    assert vendi_score(np.ones((8, 4))) == pytest.approx(1, abs=1e-6)
    assert vendi_score(np.eye(8)) == pytest.approx(8, abs=1e-6)
    assert vendi_score(np.repeat(np.eye(4), 2, axis=0)) == pytest.approx(4, abs=1e-6)


def test_pairwise_distance_leaves_out_an_image_and_itself() -> None:
    assert mean_pairwise_distance(np.array([[0.0], [3.0]])) == pytest.approx(3)
    assert mean_pairwise_distance(np.ones((5, 9))) == pytest.approx(0, abs=1e-6)
