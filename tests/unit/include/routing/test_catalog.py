from __future__ import annotations

from typing import Any

import pytest

from include.contracts.control import ModelDefaults, ModelRoute, Scenario
from include.contracts.defaults import default_policy
from include.contracts.dispatch import ModelRef
from include.contracts.errors import ReasonCode, RefusedError
from include.contracts.requests import GenerationRequest
from include.routing.catalog import Catalog


def route(name: str = "emoji", *, serving: bool = True, is_default: bool = False, at: float = 0.0, **defaults: Any) -> ModelRoute:
    champion = ModelRef(name=name, version="1", digest="0" * 64, source="x") if serving else None
    given = {"width": 32, "height": 32, "steps": 10, "guidance": 2.0, "step_s": 0.1, **defaults}
    return ModelRoute(name=name, champion=champion, defaults=ModelDefaults(**given), is_default=is_default, at=at)


def request(**fields: Any) -> GenerationRequest:
    return GenerationRequest(**{"request_id": "r-1", "tenant": "acme", "prompt": "a bear", **fields})


@pytest.fixture
def catalog() -> Catalog:
    catalog = Catalog(default_policy(), "emoji")
    catalog.put(route())
    return catalog


def refused(catalog: Catalog, **fields: Any) -> tuple[ReasonCode, str | None, str]:
    with pytest.raises(RefusedError) as caught:
        catalog.resolve(request(**fields))
    reason = caught.value.reason
    return reason.code, reason.field, reason.message


def test_the_models_defaults_fill_in_what_is_left_out(catalog: Catalog) -> None:
    task = catalog.resolve(request()).task
    assert (task.width, task.height, task.steps, task.guidance, task.negative_prompt) == (32, 32, 10, 2.0, "")


def test_the_request_goes_before_the_scenario_and_that_before_the_model(catalog: Catalog) -> None:
    catalog.put(Scenario(at=0, name="s", model="emoji", steps=20, guidance=5.0, width=64, height=48, negative_prompt="blurry"))
    task = catalog.resolve(request(scenario="s", steps=3)).task
    assert (task.steps, task.guidance, task.width, task.height, task.negative_prompt) == (3, 5.0, 64, 48, "blurry")
    assert catalog.resolve(request(scenario="s", negative_prompt="text")).task.negative_prompt == "text"


def test_a_seed_is_derived_from_the_id_where_none_is_given(catalog: Catalog) -> None:
    first, again = catalog.resolve(request()).task.seed, catalog.resolve(request()).task.seed
    assert first == again != catalog.resolve(request(request_id="r-2")).task.seed
    assert catalog.resolve(request(seed=0)).task.seed == 0


def test_an_unknown_model_is_refused_with_those_in_service(catalog: Catalog) -> None:
    catalog.put(route("gone", serving=False))
    for name in ("nobody", "gone"):
        code, field, message = refused(catalog, model=name)
        assert (code, field) == (ReasonCode.UNKNOWN_MODEL, "model")
        assert message.endswith("in service: emoji")


def test_a_retired_scenario_is_offered_no_more(catalog: Catalog) -> None:
    catalog.put(Scenario(at=0, name="s", model="emoji"))
    catalog.put(Scenario(at=1, name="s", model="emoji", retired=True))
    assert refused(catalog, scenario="s")[:2] == (ReasonCode.UNKNOWN_SCENARIO, "scenario")


@pytest.mark.parametrize(
    ("fields", "field", "offer"),
    [({"width": 2048, "height": 2048}, "width", "32x32, 64x64"), ({"images": 5}, "images", "at most 4")],
)
def test_a_shape_that_the_model_does_not_do(catalog: Catalog, fields: dict[str, Any], field: str, offer: str) -> None:
    catalog.put(route(sizes=((32, 32), (64, 64))))
    code, at_fault, message = refused(catalog, **fields)
    assert (code, at_fault) == (ReasonCode.UNSUPPORTED_SHAPE, field)
    assert offer in message


def test_a_prompt_that_the_template_makes_too_long(catalog: Catalog) -> None:
    catalog.put(Scenario(at=0, name="s", model="emoji", prompt_template="x" * 1500 + "{prompt}"))
    code, field, message = refused(catalog, scenario="s", prompt="y" * 600)
    assert (code, field) == (ReasonCode.INVALID_FIELD, "prompt")
    assert "room for 500 characters" in message


def test_the_newest_route_marked_default_is_the_default(catalog: Catalog) -> None:
    assert catalog.resolve(request()).route.name == "emoji"
    catalog.put(route("first", is_default=True, at=1.0))
    catalog.put(route("second", is_default=True, at=2.0))
    assert catalog.resolve(request()).route.name == "second"


def adapter(name: str = "sketch", of: str = "emoji", *, serving: bool = True) -> ModelRoute:
    return route(name, serving=serving).model_copy(update={"adapter_of": of})


def test_adapters_are_resolved_to_their_versions_in_the_order_of_their_names(catalog: Catalog) -> None:
    for message in (adapter("sketch"), adapter("ink"), adapter("off")):
        catalog.put(message)
    asked = [{"name": "sketch", "weight": 0.5}, {"name": "ink"}, {"name": "off", "weight": 0}]
    task = catalog.resolve(request(adapters=asked)).task
    assert [(ref.model.key, ref.weight) for ref in task.adapters] == [("ink/1", 1.0), ("sketch/1", 0.5)]
    assert task.variant == catalog.resolve(request(adapters=asked[::-1])).task.variant == "ink/1*1+sketch/1*0.5"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nobody", "there is no adapter nobody; adapters of emoji in service: sketch"),
        ("emoji", "there is no adapter emoji"),
        ("poster-ink", "poster-ink is an adapter of model poster, not of emoji"),
        ("retired", "no version of adapter retired is in service"),
    ],
)
def test_an_adapter_that_does_not_serve_the_model_is_refused(catalog: Catalog, name: str, words: str) -> None:
    for message in (adapter("sketch"), adapter("poster-ink", "poster"), adapter("retired", serving=False)):
        catalog.put(message)
    code, field, message = refused(catalog, adapters=[{"name": "sketch"}, {"name": name}])
    assert (code, field) == (ReasonCode.UNKNOWN_MODEL, "adapters.1.name")
    assert words in message


def test_an_adapter_serves_no_requests_by_itself(catalog: Catalog) -> None:
    catalog.put(adapter().model_copy(update={"is_default": True, "at": 9.0}))
    code, field, message = refused(catalog, model="sketch")
    assert (code, field) == (ReasonCode.UNKNOWN_MODEL, "model")
    assert "sketch is an adapter of model emoji; ask for that model, with sketch among adapters" in message
    assert catalog.route("sketch") is None
    assert catalog.resolve(request()).route.name == "emoji"
    assert "sketch" not in refused(catalog, model="nobody")[2]


def test_image_to_image_runs_its_share_of_the_steps(catalog: Catalog) -> None:
    task = catalog.resolve(request(init_image="inputs/acme/a.png")).task
    assert (task.init_image, task.strength, task.steps, task.steps_run) == ("inputs/acme/a.png", 0.6, 10, 6)
    task = catalog.resolve(request(init_image="images/acme/r-0/0.png", strength=0.01)).task
    assert (task.steps_run, task.variant) == (1, "from@0.01")
    assert catalog.resolve(request()).task.steps_run == 10
