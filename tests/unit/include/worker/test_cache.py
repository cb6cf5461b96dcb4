from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from include.contracts.dispatch import ModelRef
from include.registry.errors import ModelRejectedError, RegistryUnavailableError
from include.worker.cache import REFUSED_FOR_S, ModelCache, ModelLoadError
from include.worker.golden import GoldenError
from include.worker.memory import memory_bytes
from include.worker.pace import Unhurried
from include.worker.pipeline import Pipeline
from models.pipelines.golden import no_pause


def ref(number: int) -> ModelRef:
    return ModelRef(name="tiny", version=str(number), digest=f"{number:064x}", source="mlflow-artifacts:/x")


class Library:
    """Fetches nothing and loads one pipeline, counting how often; ``error`` is raised instead where set."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.loads = 0
        self.error: Exception | None = None
        self.held: set[str] = set()
        self.go = threading.Event()
        self.go.set()

    def fetch(self, ref: ModelRef) -> Path:
        self.held.add(ref.key)
        return Path(ref.version)

    def release(self, ref: ModelRef) -> None:
        self.held.discard(ref.key)

    def load(self, directory: Path, device: str) -> Pipeline:
        self.loads += 1
        assert self.go.wait(10)
        if self.error:
            raise self.error
        return self.pipeline


@pytest.fixture
def library(pipeline: Pipeline) -> Library:
    return Library(pipeline)


def test_a_version_is_loaded_once(library: Library) -> None:
    cache = ModelCache(library, library.load)
    assert cache.get(ref(1)) is cache.get(ref(1))
    assert (library.loads, cache.figures.hits, cache.figures.loads) == (1, 1, 1)
    assert cache.warm() == ("tiny/1",) and cache.has(ref(1)) and not cache.has(ref(2))


def test_two_threads_that_want_it_share_one_load(library: Library) -> None:
    cache = ModelCache(library, library.load)
    library.go.clear()
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(cache.get, ref(1)) for _ in range(2)]
        library.go.set()
        assert waiting[0].result(10) is waiting[1].result(10)
    assert library.loads == 1


def test_the_version_used_least_recently_goes(library: Library) -> None:
    cache = ModelCache(library, library.load, max_models=2)
    for number in (1, 2, 1, 3):
        cache.get(ref(number))
    assert cache.warm() == ("tiny/1", "tiny/3")
    assert library.held == {"tiny/1", "tiny/3"} and cache.figures.evictions == 1


def test_memory_bounds_it_too_but_for_the_last_version(library: Library, pipeline: Pipeline) -> None:
    size = memory_bytes(pipeline)
    assert size > 100_000
    cache = ModelCache(library, library.load, max_models=9, max_bytes=2 * size)
    for number in (1, 2, 3):
        cache.get(ref(number))
    assert cache.warm() == ("tiny/2", "tiny/3") and cache.bytes == 2 * size
    cache.max_bytes = 1
    cache.get(ref(4))
    assert cache.warm() == ("tiny/4",)


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (RegistryUnavailableError("no answer"), True),
        (ModelRejectedError("wrong digest"), False),
        (ValueError("model_index.json names the pipeline 'Evil'"), False),
        (OSError("Unable to load weights from checkpoint file"), False),
        (OSError(28, "No space left on device"), True),
        (MemoryError("no room"), True),
    ],
)
def test_a_failed_load_says_whether_another_try_helps(library: Library, error: Exception, retryable: bool) -> None:
    now = 0.0
    cache = ModelCache(library, library.load, clock=lambda: now)
    library.error = error
    with pytest.raises(ModelLoadError, match=re.escape(str(error))) as caught:
        cache.get(ref(1))
    assert caught.value.retryable is retryable and not library.held
    assert set(cache.refused()) == (set() if retryable else {"tiny/1"})
    library.error = None
    now += 0.0 if retryable else REFUSED_FOR_S
    assert cache.get(ref(1)) is library.pipeline and cache.refused() == {}


def test_a_refused_version_costs_no_second_load_for_a_while_and_the_old_one_stays(library: Library) -> None:
    cache, said = ModelCache(library, library.load, max_models=1), []
    cache.on_change = lambda: said.append((cache.warm(), tuple(cache.refused())))
    cache.get(ref(1))
    library.error = ValueError("rotten")
    for _ in range(3):
        with pytest.raises(ModelLoadError, match="rotten"):
            cache.get(ref(2))
    assert library.loads == 2
    assert said == [(("tiny/1",), ()), (("tiny/1",), ("tiny/2",))]


def test_what_does_not_pass_its_check_is_refused(library: Library) -> None:
    def check(directory: Path, pipeline: Pipeline, pause: Callable[[], object] = no_pause) -> None:
        if directory.name == "2":
            raise GoldenError("renders something else")

    cache = ModelCache(library, library.load, check=check)
    assert cache.get(ref(1)) is library.pipeline
    with pytest.raises(ModelLoadError, match="tiny/2 can't be served: renders something else"):
        cache.get(ref(2))
    assert cache.warm() == ("tiny/1",) and list(cache.refused()) == ["tiny/2"]


def test_a_load_for_which_memory_does_not_do_gets_the_room_of_what_was_not_used_last(library: Library) -> None:
    cache, loads = ModelCache(library, library.load), []

    def tight(directory: Path, device: str) -> Pipeline:
        loads.append(directory.name)
        if len(cache.warm()) > 1:
            raise MemoryError("no room")
        return library.pipeline

    cache.loader = tight
    for number in (1, 2, 3):
        cache.get(ref(number))
    assert cache.warm() == ("tiny/2", "tiny/3") and loads == ["1", "2", "3", "3"]


def test_versions_with_the_same_files_share_one_load_and_are_both_warm(library: Library) -> None:
    cache = ModelCache(library, library.load)
    first = ref(1)
    twin = first.model_copy(update={"version": "2"})
    assert cache.get(first) is not None and not cache.has(twin)
    assert cache.get(twin) is cache.get(first)
    assert cache.figures.loads == 1
    assert set(cache.warm()) == {first.key, twin.key}


def test_a_version_loaded_ahead_rehearses_before_it_counts_as_loaded(library: Library) -> None:
    seen: list[tuple[str, bool]] = []
    cache = ModelCache(library, library.load, rehearse=lambda pipeline, ref, go_on: seen.append((ref.key, cache.has(ref))))
    cache.get(ref(1), ahead=True)
    cache.get(ref(2))
    assert seen == [("tiny/1", False)], "and one that is waited for does not"
    assert cache.has(ref(1)) and cache.has(ref(2))


def test_a_load_ahead_hurries_once_somebody_waits_for_it(library: Library) -> None:
    rehearsing = threading.Event()

    def rehearse(pipeline: Pipeline, ref: ModelRef, go_on: Callable[[], bool]) -> None:
        rehearsing.set()
        while go_on():
            pass

    cache = ModelCache(library, library.load, rehearse=rehearse, unhurried=lambda: Unhurried(lambda: True))
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(cache.get, ref(1), ahead=True)
        assert rehearsing.wait(10)
        assert cache.get(ref(1)) is ahead.result(10)
    assert library.loads == 1


def test_the_check_of_a_version_loaded_ahead_leaves_pauses(library: Library) -> None:
    pauses: list[bool] = []

    def check(directory: Path, pipeline: Pipeline, pause: Callable[[], object] = no_pause) -> None:
        pauses.append(bool(pause()))

    cache = ModelCache(library, library.load, check=check)
    cache.get(ref(1), ahead=True)
    cache.get(ref(2))
    assert pauses == [True, False]


def test_what_is_loaded_anew_rehearses_too(library: Library) -> None:
    seen: list[str] = []
    cache = ModelCache(library, library.load, rehearse=lambda pipeline, ref, go_on: seen.append(ref.key))
    cache.get(ref(1))
    cache.renew(ref(1).digest)
    assert seen == ["tiny/1"] and library.loads == 2
