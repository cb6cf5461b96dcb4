from __future__ import annotations

from typing import Any

import pytest

from include.contracts.control import Canary, Cancel, ModelRoute
from include.contracts.dispatch import ModelRef
from include.registry.errors import ModelRejectedError, RegistryUnavailableError
from include.worker.prefetch import FIRST_RETRY_S, Prefetcher
from tests.support.registry import DEFAULTS
from tests.unit.include.worker.conftest import Bench


def ref(name: str, version: int) -> ModelRef:
    return ModelRef(name=name, version=str(version), digest=f"{hash((name, version)) % 2**64:064x}", source="mlflow-artifacts:/x")


def route(name: str, version: int | None, *, on_trial: int | None = None, before: int | None = None, **fields: Any) -> bytes:
    message = ModelRoute(
        at=1.0,
        name=name,
        champion=ref(name, version) if version else None,
        canary=Canary(challenger=ref(name, on_trial), share=0.1) if on_trial else None,
        previous=ref(name, before) if before else None,
        defaults=DEFAULTS,
        **fields,
    )
    return message.model_dump_json().encode()


class Ahead:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.now = 0.0
        self.changes = 0
        bench.cache.on_change = self.count
        self.prefetcher = Prefetcher(bench.cache, max_models=2, clock=lambda: self.now)

    def count(self) -> None:
        self.changes += 1


@pytest.fixture
def ahead(bench: Bench) -> Ahead:
    return Ahead(bench)


def test_only_the_newest_champion_of_a_model_is_loaded(ahead: Ahead) -> None:
    for value in (route("emoji", 1), route("emoji", 2), None, b"junk", Cancel(at=1.0, request_id="r", tenant="t").to_json()):
        ahead.prefetcher.note(value)
    assert ahead.prefetcher.load_next()
    assert not ahead.prefetcher.load_next()
    assert ahead.bench.cache.warm() == ("emoji/2",) and ahead.changes == 1


def test_an_adapter_is_not_loaded_as_a_model(ahead: Ahead) -> None:
    ahead.prefetcher.note(route("ink", 1, adapter_of="emoji"))
    assert not ahead.prefetcher.load_next()


def test_a_model_taken_out_of_service_is_not_loaded(ahead: Ahead) -> None:
    ahead.prefetcher.note(route("emoji", 1))
    ahead.prefetcher.note(route("emoji", None))
    assert not ahead.prefetcher.load_next()


def test_the_default_model_comes_first(ahead: Ahead) -> None:
    ahead.prefetcher.note(route("other", 1))
    ahead.prefetcher.note(route("emoji", 1, is_default=True))
    ahead.prefetcher.load_next()
    assert ahead.bench.cache.warm() == ("emoji/1",)


def test_a_champion_that_is_warm_already_is_no_news(ahead: Ahead) -> None:
    for _ in range(2):
        ahead.prefetcher.note(route("emoji", 1))
        ahead.prefetcher.load_next()
    assert ahead.changes == 1


def test_it_tries_again_later_where_that_may_help_and_not_where_it_can_not(ahead: Ahead, monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[Exception] = [RegistryUnavailableError("away"), ModelRejectedError("rotten")]
    calls: list[ModelRef] = []

    def fetch(ref: ModelRef) -> None:
        calls.append(ref)
        raise errors[min(len(calls), 2) - 1]

    monkeypatch.setattr(ahead.bench, "fetch", fetch)
    ahead.prefetcher.note(route("emoji", 1))
    assert ahead.prefetcher.load_next()
    assert not ahead.prefetcher.load_next()
    ahead.now += FIRST_RETRY_S
    assert ahead.prefetcher.load_next()
    ahead.now += 1000
    assert not ahead.prefetcher.load_next()
    assert len(calls) == 2 and ahead.bench.cache.warm() == ()
    assert list(ahead.bench.cache.refused()) == ["emoji/1"]


def load_all(ahead: Ahead) -> tuple[str, ...]:
    for _ in range(10):
        ahead.prefetcher.load_next()
    return ahead.bench.cache.warm()


def test_the_version_on_trial_is_loaded_and_checked_after_the_champions_and_before_any_lease(ahead: Ahead) -> None:
    ahead.bench.cache.max_models = 3
    ahead.prefetcher.note(route("emoji", 1, on_trial=2, before=3))
    ahead.prefetcher.note(route("other", 1))
    assert load_all(ahead) == ("emoji/1", "other/1", "emoji/2")


def test_the_version_before_is_kept_at_hand_for_a_rollback(ahead: Ahead) -> None:
    ahead.bench.cache.max_models = 3
    ahead.prefetcher.note(route("emoji", 2, before=1))
    assert load_all(ahead) == ("emoji/2", "emoji/1")


@pytest.mark.parametrize("bounds", [{"max_models": 1}, {"max_bytes": 1}])
def test_neither_takes_a_champions_place(ahead: Ahead, bounds: dict[str, int]) -> None:
    for name, value in bounds.items():
        setattr(ahead.bench.cache, name, value)
    ahead.prefetcher.note(route("emoji", 2, on_trial=3, before=1))
    assert load_all(ahead) == ("emoji/2",)


def test_a_version_on_trial_that_is_taken_back_is_loaded_no_more(ahead: Ahead) -> None:
    ahead.bench.cache.max_models = 3
    ahead.prefetcher.note(route("emoji", 1, on_trial=2))
    ahead.prefetcher.note(route("emoji", 1))
    assert load_all(ahead) == ("emoji/1",)
