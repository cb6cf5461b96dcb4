from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from math import exp, inf, isfinite, log, nan, sqrt
from random import Random
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.contracts.control import ModelDefaults
from include.contracts.dispatch import RenderTask
from include.contracts.requests import ImageFormat
from include.routing.cost_model import MAX_PREDICTED_S, CostModel, Work

MODEL, POOL = "emoji/1", "gpu"
NOISE = 0.1
DEFAULTS = ModelDefaults(width=64, height=64, steps=12, guidance=3.0, step_s=0.05)
USUAL = Work(64 * 64, 12, 1, True)
Surface = Callable[[Work], float]

works = st.builds(
    Work, st.integers(16 * 16, 4096 * 4096), st.integers(1, 200), st.integers(1, 16), st.booleans()
)  # every shape that a request may ask for
reported = st.one_of(st.floats(1e-9, 1e9), st.sampled_from([5e-324, 1.0, 1e9, 1e308]))
histories = st.lists(st.tuples(works, reported), max_size=40)


def surface(work: Work, speed: float = 1.0) -> float:
    """Seconds of an invented device: a fixed cost, one a step, the network's by pixels and by their square."""
    pixels = work.pixels / 4096
    network = work.steps * work.images * (2 if work.guided else 1) * pixels
    return speed * (0.05 + 0.003 * work.steps + 0.004 * network + 0.0008 * network * pixels)


def some_work(random: Random) -> Work:
    width, images = random.choice([32, 48, 64, 96, 128]), random.choice([1, 1, 2, 4])
    return Work(width * random.choice([width, 64]), random.choice([1, 2, 4, 8, 12, 20, 30]), images, random.random() < 0.6)


def completions(count: int, *, seed: int = 1, truth: Surface = surface) -> Iterator[tuple[Work, float]]:
    random = Random(seed)
    for _ in range(count):
        work = some_work(random)
        yield work, truth(work) * exp(random.gauss(0, NOISE))


def taught(count: int = 1500, *, seed: int = 1, truth: Surface = surface) -> CostModel:
    model = CostModel()
    teach(model, count, seed=seed, truth=truth)
    return model


def teach(model: CostModel, count: int, *, seed: int = 2, truth: Surface = surface, pool: str = POOL) -> None:
    for work, seconds in completions(count, seed=seed, truth=truth):
        model.observe(MODEL, work, seconds, DEFAULTS, pool)


def seconds(model: CostModel, work: Work, pool: str | None = POOL) -> float:
    return model.predict(MODEL, work, DEFAULTS, pool).seconds


SHAPES = product([1024, 4096, 9216, 16384], [1, 4, 12, 30], [1, 4], [False, True])
GRID = [Work(pixels, steps, images, guided) for pixels, steps, images, guided in SHAPES]


def errors(model: CostModel, truth: Surface = surface, pool: str | None = POOL) -> list[float]:
    return [abs(log(seconds(model, work, pool) / truth(work))) for work in GRID]


def test_work_is_what_renders_rather_than_what_is_stored() -> None:
    task = RenderTask(
        request_id="r", tenant="t", prompt="a bear", width=32, height=64, steps=7, guidance=2.0, seed=1,
        images=3, image_format=ImageFormat.PNG, upscale_to=(128, 256),
    )  # fmt: skip
    assert Work.of(task) == (32 * 64, 7, 3, True)
    assert not Work.of(task.model_copy(update={"guidance": 1.0})).guided
    assert Work.of(task.model_copy(update={"init_image": "inputs/acme/a.png", "strength": 0.5})).steps == 3


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (Work(4096, 12, 1, False), 0.6),
        (Work(4096, 12, 1, True), 1.2),
        (Work(4096, 24, 1, False), 1.2),
        (Work(4096, 12, 3, False), 1.8),
        (Work(16384, 12, 1, False), 2.4),
    ],
)
def test_before_the_first_completion_the_stated_prior_holds(work: Work, expected: float) -> None:
    prediction = CostModel().predict(MODEL, work, DEFAULTS, POOL)
    assert prediction == pytest.approx((expected, expected / 3, expected * 3, 0))


def test_the_prior_is_capped_whatever_a_route_states() -> None:
    costly = DEFAULTS.model_copy(update={"step_s": 1e300})
    model = CostModel()
    assert model.predict(MODEL, USUAL, costly).seconds == MAX_PREDICTED_S
    model.observe(MODEL, USUAL, 1.0, costly, POOL)
    assert isfinite(model.predict(MODEL, USUAL, costly, POOL).high_s)


def test_the_prior_counts_like_one_completion() -> None:
    model = CostModel()
    before = seconds(model, USUAL)
    model.observe(MODEL, USUAL, 1.5 * before, DEFAULTS, POOL)
    assert seconds(model, USUAL) / before == pytest.approx(sqrt(1.5), rel=0.05)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("speed", [0.01, 1.0, 50.0])
def test_it_finds_an_unknown_cost_surface(seed: int, speed: float) -> None:
    def truth(work: Work) -> float:
        return surface(work, speed)

    model = taught(seed=seed, truth=truth)
    assert median(errors(model, truth)) < 0.05
    assert max(errors(model, truth)) < 0.12


@pytest.mark.parametrize("speed", [0.01, 1.0, 100.0])
def test_it_is_close_within_forty_completions_however_wrong_the_prior_was(speed: float) -> None:
    def truth(work: Work) -> float:
        return surface(work, speed)

    assert median(median(errors(taught(40, seed=seed, truth=truth), truth)) for seed in range(9)) < 0.2


@pytest.mark.parametrize("seed", range(3))
def test_the_band_holds_four_of_five_completions(seed: int) -> None:
    model = taught(400, seed=seed)
    held = 0
    for work, actual in completions(1000, seed=100 + seed):
        prediction = model.predict(MODEL, work, DEFAULTS, POOL)
        held += prediction.low_s <= actual <= prediction.high_s
        model.observe(MODEL, work, actual, DEFAULTS, POOL)
    assert 0.75 < held / 1000 < 0.85


def test_the_band_says_what_the_noise_is_and_is_wider_where_nothing_was_seen() -> None:
    model = CostModel()
    for _, noisy in completions(500, truth=lambda work: 1.0):
        model.observe(MODEL, USUAL, noisy, DEFAULTS, POOL)
    usual, unseen = (model.predict(MODEL, work, DEFAULTS, POOL) for work in (USUAL, Work(1024 * 1024, 12, 1, True)))
    assert usual.high_s / usual.seconds == pytest.approx(exp(1.28 * NOISE), rel=0.06)
    assert usual.low_s / usual.seconds == pytest.approx(exp(-1.28 * NOISE), rel=0.06)
    assert unseen.high_s / unseen.seconds > 1.5


@pytest.mark.parametrize("factor", [100.0, 0.01])
@pytest.mark.parametrize("seed", range(3))
def test_outliers_of_five_in_a_hundred_hardly_count(seed: int, factor: float) -> None:
    clean, dirty, random = CostModel(), CostModel(), Random(seed)
    for work, actual in completions(1500, seed=seed):
        clean.observe(MODEL, work, actual, DEFAULTS, POOL)
        dirty.observe(MODEL, work, actual * (factor if random.random() < 0.05 else 1), DEFAULTS, POOL)
    moved = [abs(log(seconds(dirty, work) / seconds(clean, work))) for work in GRID]
    assert max(moved) < 0.1


def test_one_odd_micro_batch_moves_little() -> None:
    model = taught()
    before = [seconds(model, work) for work in GRID]
    for _ in range(16):
        model.observe(MODEL, USUAL, 1000 * surface(USUAL), DEFAULTS, POOL)
    assert max(seconds(model, work) / was for work, was in zip(GRID, before, strict=True)) < 1.25


@pytest.mark.parametrize("speed", [0.5, 1.2, 2.0, 10.0])
def test_it_follows_a_device_that_changed(speed: float) -> None:
    def truth(work: Work) -> float:
        return surface(work, speed)

    model = taught()
    assert median(errors(model, truth)) > 0.15
    teach(model, 100, truth=truth)
    assert median(errors(model, truth)) < 0.1


@given(histories, works, reported, st.lists(works, min_size=1, max_size=5))
def test_no_completion_moves_a_prediction_by_more_than_a_factor_of_two(
    history: list[tuple[Work, float]], work: Work, actual: float, others: list[Work]
) -> None:
    model = CostModel()
    for seen, used in [(USUAL, 0.3), *history]:
        model.observe(MODEL, seen, used, DEFAULTS, POOL)
    looked_at = [(other, pool) for other in [work, *others] for pool in (POOL, None, "new")]
    before = [seconds(model, other, pool) for other, pool in looked_at]
    model.observe(MODEL, work, actual, DEFAULTS, "new")
    model.observe("other/1", work, actual, DEFAULTS, POOL)
    for (other, pool), was in zip(looked_at, before, strict=True):
        assert 0.4999 < seconds(model, other, pool) / was < 2.0001


@given(histories, works, works)
def test_more_never_costs_less(history: list[tuple[Work, float]], one: Work, other: Work) -> None:
    model = CostModel()
    for seen, used in history:
        model.observe(MODEL, seen, used, DEFAULTS, POOL)
    least, most = Work._make(map(min, one, other)), Work._make(map(max, one, other))
    assert seconds(model, least) <= seconds(model, most) * (1 + 1e-9)


@settings(max_examples=50)
@given(st.lists(st.tuples(works, reported), min_size=1, max_size=5), works, st.floats(1e-300, 1e300))
def test_predictions_are_positive_numbers_whatever_is_reported(history: list[tuple[Work, float]], work: Work, step_s: float) -> None:
    model, defaults = CostModel(), DEFAULTS.model_copy(update={"step_s": step_s})
    for seen, used in history * 60:
        model.observe(MODEL, seen, used, defaults, POOL)
        prediction = model.predict(MODEL, work, defaults, POOL)
        assert 0 < prediction.low_s < prediction.seconds < prediction.high_s < 1e9


@pytest.mark.parametrize("nothing", [0.0, -1.0, nan, inf, -inf])
def test_what_is_not_a_duration_teaches_nothing(nothing: float) -> None:
    model = taught(10)
    before = model.encode()
    assert model.observe(MODEL, USUAL, nothing, DEFAULTS, POOL) == ()
    assert model.encode() == before


def test_pools_are_learned_apart() -> None:
    model = CostModel()
    for (work, fast), (_, slow) in zip(completions(1000), completions(1000, truth=lambda work: surface(work, 30.0)), strict=True):
        model.observe(MODEL, work, fast, DEFAULTS, "gpu")
        model.observe(MODEL, work, slow, DEFAULTS, "edge")
    assert median(errors(model, pool="gpu")) < 0.05
    assert median(errors(model, lambda work: surface(work, 30.0), "edge")) < 0.05
    assert seconds(model, USUAL, "gpu") < seconds(model, USUAL, None) < seconds(model, USUAL, "edge")
    assert model.predict(MODEL, USUAL, DEFAULTS, "gpu").samples == 1000
    assert model.predict(MODEL, USUAL, DEFAULTS).samples == 2000


def test_a_pool_without_completions_is_predicted_from_all_pools_and_another_version_by_the_prior() -> None:
    model = taught(100)
    assert model.predict(MODEL, USUAL, DEFAULTS, "new") == model.predict(MODEL, USUAL, DEFAULTS)
    assert model.predict("emoji/2", USUAL, DEFAULTS, POOL).samples == 0


def test_a_new_pool_has_the_shape_of_the_others_and_needs_only_its_speed() -> None:
    model = taught()
    teach(model, 40, truth=lambda work: surface(work, 5.0), pool="edge")
    assert median(errors(model, lambda work: surface(work, 5.0), "edge")) < 0.1


def test_a_route_that_changes_its_default_size_keeps_what_was_learned() -> None:
    model = taught(200)
    larger = DEFAULTS.model_copy(update={"width": 512, "height": 512, "step_s": 9.0})
    assert model.predict(MODEL, USUAL, larger, POOL) == model.predict(MODEL, USUAL, DEFAULTS, POOL)


def test_the_error_is_the_median_of_recent_relative_errors() -> None:
    model = CostModel()
    assert model.error() == 0.0
    model.observe(MODEL, USUAL, 1.2, DEFAULTS, POOL)
    assert model.error() == pytest.approx(0.0, abs=0.01)
    teach(model, 1500)
    assert model.error() == pytest.approx(0.674 * NOISE, rel=0.25)
