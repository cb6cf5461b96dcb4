from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from include.contracts.dispatch import ModelRef
from include.registry.errors import ModelRejectedError, RegistryUnavailableError
from include.worker.cache import ModelCache, ModelLoadError
from include.worker.memory import memory_bytes
from include.worker.pipeline import Pipeline


def ref(number: int) -> ModelRef:
    return ModelRef(name="tiny", version=str(number), digest=f"{number:064x}", source="mlflow-artifacts:/x")


class Library:
    """Fetches nothing and loads one pipeline, counting how often; ``error`` is raised instead where set."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.loads = 0
        self.error: Exception | None = None
        self.go = threading.Event()
        self.go.set()

    def fetch(self, ref: ModelRef) -> Path:
        return Path(ref.version)

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
    assert (library.loads, cache.hits, cache.loads) == (1, 1, 1)
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
    cache = ModelCache(library, library.load)
    library.error = error
    with pytest.raises(ModelLoadError, match=re.escape(str(error))) as caught:
        cache.get(ref(1))
    assert caught.value.retryable is retryable
    library.error = None
    assert cache.get(ref(1)) is library.pipeline


def test_versions_with_the_same_files_share_one_load_and_are_both_warm(library: Library) -> None:
    cache = ModelCache(library, library.load)
    first = ref(1)
    twin = first.model_copy(update={"version": "2"})
    assert cache.get(first) is not None and not cache.has(twin)
    assert cache.get(twin) is cache.get(first)
    assert cache.loads == 1
    assert set(cache.warm()) == {first.key, twin.key}
