from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.contracts.control import ModelDefaults, ModelRoute, Policy
from include.contracts.defaults import default_policy
from include.contracts.dispatch import AdapterRef, ModelRef, RenderTask
from include.contracts.events import Lane
from include.contracts.policy import QualityFloor, Rung
from include.contracts.requests import MIN_SIDE, SIDE_MULTIPLE, ImageFormat, Tier
from include.routing.ladder import LadderControl, degrade

POLICY = default_policy()


def route(name: str = "emoji", *, serving: bool = True, distilled: str | None = "emoji-fast", **defaults: Any) -> ModelRoute:
    champion = ModelRef(name=name, version="1", digest="0" * 64, source="x") if serving else None
    given = {"width": 64, "height": 64, "steps": 24, "guidance": 2.0, **defaults}
    return ModelRoute(name=name, champion=champion, defaults=ModelDefaults(**given), distilled=distilled, at=0.0)


FAST = route("emoji-fast", distilled=None)


def task(**values: Any) -> RenderTask:
    content = {"request_id": "r-1", "tenant": "acme", "prompt": "a bear", "width": 64, "height": 64, "steps": 24, "guidance": 2.0}
    return RenderTask(**{**content, "seed": 7, "images": 2, "image_format": ImageFormat.PNG, **values})


def policy(**changes: Any) -> Policy:
    return Policy.model_validate({**POLICY.model_dump(), **changes})


FOUR = policy(ladder=POLICY.ladder[:4])


class TestDegrade:
    @pytest.mark.parametrize(
        ("level", "words"),
        [
            (1, ("18 of 24 steps",)),
            (2, ("12 of 24 steps",)),
            (3, ("12 of 24 steps", "32x32 scaled up to 64x64")),
            (4, ("12 of 24 steps", "32x32 scaled up to 64x64", "model emoji-fast in place of emoji")),
        ],
    )
    def test_every_rung_says_what_it_takes(self, level: int, words: tuple[str, ...]) -> None:
        given = degrade(task(), route(), level, Tier.FREE, POLICY, FAST)
        assert (given.level, given.task.degraded) == (level, words)

    def test_the_last_rung_is_as_far_as_it_goes(self) -> None:
        given = degrade(task(), route(), 99, Tier.FREE, POLICY, FAST)
        assert given == degrade(task(), route(), len(POLICY.ladder), Tier.FREE, POLICY, FAST)
        assert (given.task.steps, given.task.width, given.task.upscale_to, given.model) == (12, 32, (64, 64), "emoji-fast")

    def test_the_last_thing_given_up_is_that_the_image_is_its_own(self) -> None:
        last = len(POLICY.ladder)
        assert degrade(task(images=1), route(), last, Tier.FREE, POLICY, FAST).task.near == 0.95
        assert degrade(task(images=1), route(), last - 1, Tier.FREE, POLICY, FAST).task.near is None
        assert degrade(task(images=1), route(), last, Tier.PRO, POLICY, FAST).task.near is None

    @pytest.mark.parametrize(
        ("values", "seeded"), [({"images": 2}, False), ({"init_image": "inputs/acme/a.png", "strength": 0.5}, False), ({}, True)]
    )
    def test_what_a_prompt_does_not_describe_has_nothing_alike(self, values: dict[str, Any], seeded: bool) -> None:
        asked = task(**{"images": 1, **values})
        given = degrade(asked, route(), 1, Tier.FREE, policy(ladder=(Rung(near=0.9),)), None, seeded=seeded)
        assert (given.level, given.task) == (0, asked)

    def test_a_rung_of_nothing_else_counts_and_keeps_the_tiers_similarity(self) -> None:
        given = degrade(task(images=1), route(), 1, Tier.FREE, policy(ladder=(Rung(near=0.9),)), None)
        assert (given.level, given.task.near, given.task.degraded) == (1, 0.95, ())

    def test_the_tier_bounds_each_part(self) -> None:
        given = degrade(task(), route(), 4, Tier.ENTERPRISE, POLICY, FAST)
        assert (given.task.degraded, given.model, given.task.upscale_to) == (("18 of 24 steps",), "emoji", None)

    @pytest.mark.parametrize(("asked", "left"), [(24, 12), (10, 6), (6, 6), (3, 3)])
    def test_steps_end_at_the_least_number_unless_fewer_were_asked_for(self, asked: int, left: int) -> None:
        assert degrade(task(steps=asked), route(), 2, Tier.PRO, POLICY, None).task.steps == left

    def test_a_share_that_is_a_whole_number_is_not_rounded_up(self) -> None:
        exact = policy(ladder=(Rung(steps=0.55),))
        assert degrade(task(steps=20), route(), 1, Tier.FREE, exact, None).task.steps == 11

    def test_what_gives_up_nothing_is_no_degradation(self) -> None:
        asked = task(steps=3)
        for level, table in [(0, POLICY), (-1, POLICY), (2, POLICY), (1, policy(ladder=()))]:
            nothing = degrade(asked, route(), level, Tier.PRO, table, FAST)
            assert (nothing.task, nothing.model, nothing.level) == (asked, "emoji", 0)

    def test_only_sizes_of_the_same_aspect_that_the_model_renders(self) -> None:
        some = route(sizes=((64, 64), (48, 48), (32, 64), (24, 24), (36, 36)))
        assert degrade(task(), some, 3, Tier.FREE, POLICY, None).task.width == 48
        only = route(sizes=((64, 64), (16, 16)))
        assert degrade(task(), only, 3, Tier.FREE, POLICY, None).task.degraded == ("12 of 24 steps",)

    @pytest.mark.parametrize(
        ("asked", "left"),
        [
            ((96, 64), (48, 32)),
            ((72, 48), (48, 32)),
            ((40, 64), (40, 64)),
            ((24, 24), (16, 16)),
            ((16, 16), (16, 16)),
            ((128, 32), (64, 16)),
        ],
    )
    def test_a_size_without_a_list_keeps_aspect_multiple_and_least_side(self, asked: tuple[int, int], left: tuple[int, int]) -> None:
        given = degrade(task(width=asked[0], height=asked[1]), route(), 3, Tier.FREE, POLICY, None).task
        assert (given.width, given.height) == left
        assert given.upscale_to == (None if left == asked else asked)

    @pytest.mark.parametrize(
        "stand_in",
        [
            None,
            route("emoji-fast", serving=False),
            route("other"),
            route("emoji-fast", sizes=((64, 64),)),
            route("emoji-fast", max_images=1),
        ],
    )
    def test_a_stand_in_that_can_not_take_it_over_does_not(self, stand_in: ModelRoute | None) -> None:
        given = degrade(task(), route(), 4, Tier.FREE, POLICY, stand_in)
        assert (given.model, given.level) == ("emoji", 4)
        assert given.task.degraded == ("12 of 24 steps", "32x32 scaled up to 64x64")

    def test_adapters_stay_on_the_model_they_were_made_for(self) -> None:
        ink = AdapterRef(model=ModelRef(name="ink", version="1", digest="1" * 64, source="x"))
        given = degrade(task().model_copy(update={"adapters": (ink,)}), route(), 4, Tier.FREE, POLICY, FAST)
        assert (given.model, given.task.adapters) == ("emoji", (ink,))


sides = st.integers(MIN_SIDE // SIDE_MULTIPLE, 512).map(lambda number: number * SIDE_MULTIPLE)
shares = st.floats(0.01, 1.0)
tasks = st.builds(
    lambda w, h, steps, images: task(width=w, height=h, steps=steps, images=images), sides, sides, st.integers(1, 200), st.integers(1, 4)
)
floors = st.builds(QualityFloor, steps=shares, min_steps=st.integers(1, 50), size=shares, distilled=st.booleans())
rungs = st.builds(Rung, steps=shares, size=shares, distilled=st.booleans())
sizes = st.lists(st.tuples(sides, sides), max_size=4).map(tuple)


@given(tasks, rungs, floors, sizes, sizes, st.sampled_from(Tier), st.integers(0, 3))
def test_never_below_the_floor_and_nothing_else_changes(
    asked: RenderTask, rung: Rung, floor: QualityFloor, ours: Any, theirs: Any, tier: Tier, level: int
) -> None:
    table = policy(ladder=(rung,), quality_floors=dict.fromkeys(Tier, floor))
    sizes = (*ours, (asked.width, asked.height)) if ours else ()
    fast = route("emoji-fast", sizes=theirs)
    degraded = degrade(asked, route(sizes=sizes), level, tier, table, fast)
    given = RenderTask.model_validate(degraded.task.model_dump())  # a worker takes it
    share = max(rung.size, floor.size)
    assert given.steps >= min(asked.steps, max(floor.min_steps, math.floor(asked.steps * floor.steps)))
    assert given.steps >= asked.steps * max(rung.steps, floor.steps) - 1e-6 and given.steps <= asked.steps
    assert asked.width * share - 1e-6 <= given.width <= asked.width and given.width * asked.height == given.height * asked.width
    assert not sizes or (given.width, given.height) in sizes
    assert given.upscale_to == (None if given.width == asked.width else (asked.width, asked.height))
    if degraded.model != "emoji":
        assert floor.distilled and rung.distilled and (not theirs or (given.width, given.height) in theirs)
    rest = {"steps", "width", "height", "upscale_to", "degraded"}
    assert given.model_dump(exclude=rest) == asked.model_dump(exclude=rest)
    assert bool(given.degraded) == bool(degraded.level) == (given != asked or degraded.model != "emoji")


@given(tasks, st.sampled_from(Tier), st.integers(1, 4))
def test_a_higher_rung_takes_no_less(asked: RenderTask, tier: Tier, level: int) -> None:
    upper = degrade(asked, route(), level - 1, tier, POLICY, FAST).task
    lower = degrade(asked, route(), level, tier, POLICY, FAST).task
    assert lower.steps <= upper.steps and lower.width <= upper.width


class TestControl:
    @pytest.mark.parametrize(
        ("fill", "level"),
        [(0.0, 0), (0.49, 0), (0.5, 1), (0.62, 1), (0.625, 2), (0.75, 3), (0.875, 4), (1.0, 4), (7.0, 4), (float("inf"), 4)],
    )
    def test_rungs_share_the_fill_evenly(self, fill: float, level: int) -> None:
        assert LadderControl().level(Lane.HIGH, fill, FOUR, 0.0) == level

    def test_it_comes_down_by_one_rung_a_hold_time(self) -> None:
        control = LadderControl(hold_s=5.0)
        control.level(Lane.HIGH, 1.0, FOUR, 0.0)
        levels = [control.level(Lane.HIGH, 0.0, FOUR, float(second)) for second in range(1, 24)]
        assert levels == [4] * 5 + [3] * 5 + [2] * 5 + [1] * 5 + [0] * 3

    def test_a_fill_within_the_margin_keeps_the_rung(self) -> None:
        control = LadderControl(hold_s=5.0)
        control.level(Lane.HIGH, 0.5, FOUR, 0.0)
        assert [control.level(Lane.HIGH, 0.41, FOUR, float(second)) for second in range(1, 60)] == [1] * 59
        assert control.level(Lane.HIGH, 0.39, FOUR, 60.0) == 1
        assert control.level(Lane.HIGH, 0.39, FOUR, 65.0) == 0

    def test_a_relapse_starts_the_hold_time_anew(self) -> None:
        control = LadderControl(hold_s=5.0)
        control.level(Lane.HIGH, 0.5, FOUR, 0.0)
        fills = {1.0: 0.1, 4.0: 0.45, 5.0: 0.1, 9.0: 0.1}
        assert [control.level(Lane.HIGH, fill, FOUR, at) for at, fill in fills.items()] == [1, 1, 1, 1]
        assert control.level(Lane.HIGH, 0.1, FOUR, 10.0) == 0

    def test_a_first_request_after_a_quiet_time_is_not_degraded(self) -> None:
        control = LadderControl(hold_s=5.0)
        control.level(Lane.NORMAL, 1.0, FOUR, 0.0)
        assert control.level(Lane.NORMAL, 0.0, FOUR, 3600.0) == 0

    def test_lanes_stand_alone(self) -> None:
        control = LadderControl()
        control.level(Lane.NORMAL, 1.0, FOUR, 0.0)
        assert control.level(Lane.HIGH, 0.2, FOUR, 0.0) == 0

    def test_a_shorter_ladder_takes_effect_at_once(self) -> None:
        control = LadderControl()
        control.level(Lane.HIGH, 1.0, FOUR, 0.0)
        assert control.level(Lane.HIGH, 1.0, policy(ladder=FOUR.ladder[:2]), 1.0) == 2
        assert control.level(Lane.HIGH, 1.0, policy(ladder=()), 2.0) == 0

    @given(st.lists(st.tuples(st.floats(0, 1.5), st.floats(0, 10)), max_size=40))
    def test_it_goes_up_with_the_fill_and_down_no_faster_than_the_hold_time_allows(self, path: list[tuple[float, float]]) -> None:
        control, copy, now, before = LadderControl(hold_s=5.0), LadderControl(hold_s=5.0), 0.0, 0
        for fill, elapsed in path:
            now += elapsed
            level = control.level(Lane.HIGH, fill, FOUR, now)
            assert level >= LadderControl().level(Lane.HIGH, fill, FOUR, now)
            assert level >= before - (1 + elapsed // 5.0)
            assert copy.level(Lane.HIGH, fill, FOUR, now) == level
            copy.restore(control.encode())
            before = level

    @given(st.lists(st.floats(0, 2), min_size=2, max_size=20).map(sorted))
    def test_a_rising_fill_never_lowers_the_rung(self, fills: list[float]) -> None:
        control = LadderControl()
        levels = [control.level(Lane.LOW, fill, FOUR, float(at)) for at, fill in enumerate(fills)]
        assert levels == sorted(levels)
