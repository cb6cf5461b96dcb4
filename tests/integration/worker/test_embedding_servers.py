"""Embeddings that workers share through a real Redis or Memcached, and what happens to renders when it goes away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import torch

from include.worker.embeddings import SharedEmbeddings, shared_embeddings
from include.worker.prompt_cache import PromptCache
from tests.support.cache_servers import CacheServer, cache_server
from tests.support.leases import REF
from tests.support.tiny_pipeline import tiny_pipeline

VALUE = {"tokens": torch.randn(1, 5, 8).bfloat16(), "mask": torch.tensor([[True, False]]), "pooled": torch.randn(1, 8)}


@pytest.fixture(params=["redis", "memcached"])
def server(request: pytest.FixtureRequest) -> Iterator[CacheServer]:
    with cache_server(request.param) as found:
        yield found


@pytest.fixture
def connect(server: CacheServer) -> Iterator[Callable[[], SharedEmbeddings]]:
    """Another worker's connection."""
    with ExitStack() as stack:

        def connected() -> SharedEmbeddings:
            found = shared_embeddings(server.address)
            assert found is not None
            stack.callback(found.close)
            return found

        yield connected


def test_what_one_worker_put_another_gets_bit_for_bit(server: CacheServer, connect: Callable[[], SharedEmbeddings]) -> None:
    connect().put("k", VALUE)
    found = connect().get("k")
    assert found is not None and all(torch.equal(found[name], VALUE[name]) and found[name].dtype == VALUE[name].dtype for name in VALUE)
    assert connect().get("other") is None


def test_a_second_worker_encodes_nothing(server: CacheServer, connect: Callable[[], SharedEmbeddings]) -> None:
    pipeline = tiny_pipeline()
    for expected in (False, True):
        cache = PromptCache(lambda ref: None, shared=connect())
        found = cache.encode(pipeline, REF, ["red heart"], ["dog"], [2.0])
        assert list(found.hits) == [expected]
    assert cache.misses == 0


def test_a_server_that_goes_away_costs_misses_and_returns(server: CacheServer, connect: Callable[[], SharedEmbeddings]) -> None:
    now = 0.0
    shared = SharedEmbeddings(connect().blobs, clock=lambda: now)
    shared.put("k", VALUE)
    server.stop()
    began = time.perf_counter()
    assert all(shared.get("k") is None for _ in range(100))
    assert time.perf_counter() - began < 5 and shared.failures == 1
    server.start()
    now = 60.0
    shared.put("k", VALUE)
    assert shared.get("k") is not None and shared.failures == 0


def test_a_value_larger_than_the_server_takes_is_no_failure(server: CacheServer, connect: Callable[[], SharedEmbeddings]) -> None:
    shared = connect()
    shared.put("k", {"tokens": torch.zeros(shared.blobs.max_bytes // 4 + 1)})
    assert shared.get("k") is None and shared.failures == 0


def test_the_largest_value_that_is_sent_is_taken(server: CacheServer, connect: Callable[[], SharedEmbeddings]) -> None:
    if server.kind == "redis":
        pytest.skip("64 MB in one value would only be slow")
    shared = connect()
    shared.put("k", {"tokens": torch.zeros(shared.blobs.max_bytes // 4 - 100)})
    assert shared.get("k") is not None and shared.failures == 0
