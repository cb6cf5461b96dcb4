from __future__ import annotations

import numpy as np
import pytest

from include.simulation.scenario import POOL, STUDIO
from include.simulation.service_times import ServiceTimes

SMALL, LARGE = 512 * 512, 1024 * 1024


def times(**fields: float) -> ServiceTimes:
    return ServiceTimes(tables={("studio", POOL): STUDIO}, **fields)


def test_a_batch_helps_small_images_and_hardly_large_ones():
    four_small = times().expected("studio", SMALL, 20, True, 4, POOL)
    four_large = times().expected("studio", LARGE, 20, True, 4, POOL)
    assert four_small < 2.0 * times().expected("studio", SMALL, 20, True, 1, POOL)
    assert four_large > 3.6 * times().expected("studio", LARGE, 20, True, 1, POOL)


@pytest.mark.parametrize("change", [{"pixels": LARGE}, {"steps": 40}, {"guided": True}, {"images": 2}])
def test_more_work_takes_longer(change: dict[str, int]):
    work = {"pixels": SMALL, "steps": 20, "guided": False, "images": 1}
    assert times().expected("studio", **{**work, **change}, pool=POOL) > times().expected("studio", **work, pool=POOL)


def test_sizes_between_rows_lie_between_them_and_the_outermost_rows_hold_beyond():
    small, between, large = (STUDIO.seconds(pixels, 20, True, 1) for pixels in (SMALL, 640 * 640, 768 * 768))
    assert small < between < large
    assert STUDIO.seconds(64 * 64, 20, True, 1) == small
    assert STUDIO.seconds(SMALL, 20, True, 100) == pytest.approx(STUDIO.seconds(SMALL, 20, True, 8) * 100 / 8, rel=0.1)


def test_noise_has_mean_one_and_depends_on_seed_and_name_alone():
    expected = times().expected("studio", SMALL, 20, True, 1, POOL)
    drawn = [times(sigma=0.2, seed=5).actual(f"r-{number}", "studio", SMALL, 20, True, 1, POOL) / expected for number in range(300)]
    table = times(sigma=0.2, seed=5)
    again = [table.actual(f"r-{number}", "studio", SMALL, 20, True, 1, POOL) / expected for number in reversed(range(300))]
    assert drawn == again[::-1]
    assert np.mean(drawn) == pytest.approx(1.0, abs=0.05)
    assert np.std(np.log(drawn)) == pytest.approx(0.2, abs=0.03)
    assert times(sigma=0.2, seed=6).actual("r-0", "studio", SMALL, 20, True, 1, POOL) / expected != drawn[0]


def test_without_noise_every_render_takes_what_is_expected():
    assert times(sigma=0.0).actual("r", "studio", SMALL, 20, True, 1, POOL) == times().expected("studio", SMALL, 20, True, 1, POOL)


def test_a_model_without_a_row_is_an_error():
    with pytest.raises(KeyError, match="swift"):
        times().expected("swift", SMALL, 20, True, 1, POOL)
