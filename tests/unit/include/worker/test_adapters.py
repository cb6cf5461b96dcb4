from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from include.contracts.dispatch import AdapterRef, ModelRef
from include.registry.errors import ModelRejectedError, RegistryUnavailableError
from include.worker import adapters
from include.worker.adapters import AdapterShelf
from include.worker.cache import ModelLoadError
from include.worker.pipeline import Pipeline, load_torch
from tests.support.device import DEVICE
from tests.support.tiny_pipeline import tiny_pipeline, write_tiny_pipeline


class Fetches:
    """Gives directories by digest, and counts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fetched: list[str] = []
        self.held: set[str] = set()
        self.error: Exception | None = None

    def fetch(self, ref: ModelRef) -> Path:
        if self.error:
            raise self.error
        self.fetched.append(ref.name)
        self.held.add(ref.name)
        return self.root / ref.name

    def release(self, ref: ModelRef) -> None:
        self.held.remove(ref.name)


class Views:
    """An adaptable pipeline that tells what it was asked for."""

    backend = "torch-eager"

    def __init__(self) -> None:
        self.loaded: set[Path] = set()

    def with_adapters(self, adapters: Sequence[tuple[Path, float]]) -> tuple[tuple[Path, float], ...]:
        self.loaded |= {path for path, _ in adapters}
        return tuple(adapters)

    def holds(self, adapter: Path) -> bool:
        return adapter in self.loaded


def adapter(name: str, weight: float = 1.0) -> AdapterRef:
    return AdapterRef(model=ModelRef(name=name, version="1", digest=hashlib.sha256(name.encode()).hexdigest(), source="x"), weight=weight)


def test_what_is_loaded_is_not_fetched_again(tmp_path: Path) -> None:
    fetches, views = Fetches(tmp_path), Views()
    shelf = AdapterShelf(fetches)
    asked = [adapter("ink", 0.5), adapter("sketch")]
    for _ in range(2):
        assert shelf.put_on(views, asked) == ((tmp_path / "ink", 0.5), (tmp_path / "sketch", 1.0))  # type: ignore[arg-type]
    assert fetches.fetched == ["ink", "sketch"]
    views.loaded.clear()
    shelf.put_on(views, asked[:1])  # type: ignore[arg-type]
    assert fetches.fetched == ["ink", "sketch", "ink"]
    assert fetches.held == {"ink", "sketch"}


def test_files_are_let_go_once_too_many_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "MAX_KNOWN", 1)
    fetches, views = Fetches(tmp_path), Views()
    shelf = AdapterShelf(fetches)
    for name in ("ink", "sketch"):
        shelf.put_on(views, [adapter(name)])  # type: ignore[arg-type]
    assert fetches.held == {"sketch"}


def test_without_adapters_it_is_the_pipeline_itself(tmp_path: Path) -> None:
    pipeline = tiny_pipeline()
    assert AdapterShelf(Fetches(tmp_path)).put_on(pipeline, ()) is pipeline


def test_a_pipeline_that_takes_none_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="ink/1: backend torch-eager takes no adapters") as caught:
        AdapterShelf(Fetches(tmp_path)).put_on(tiny_pipeline(), [adapter("ink")])
    assert caught.value.retryable


@pytest.mark.parametrize(("error", "retryable"), [(RegistryUnavailableError("away"), True), (ModelRejectedError("wrong digest"), False)])
def test_one_that_cannot_be_had_fails_the_load(tmp_path: Path, error: Exception, retryable: bool) -> None:
    fetches = Fetches(tmp_path)
    fetches.error = error
    with pytest.raises(ModelLoadError, match=str(error)) as caught:
        AdapterShelf(fetches).put_on(Views(), [adapter("ink")])  # type: ignore[arg-type]
    assert caught.value.retryable is retryable


def test_one_that_does_not_fit_fails_the_load(tmp_path: Path) -> None:
    (tmp_path / "ink").mkdir()
    pipeline: Pipeline = load_torch(write_tiny_pipeline(tmp_path / "model"), DEVICE)
    with pytest.raises(ModelLoadError, match="ink/1 can't be used: an adapter is a directory with one safetensors file") as caught:
        AdapterShelf(Fetches(tmp_path)).put_on(pipeline, [adapter("ink")])
    assert not caught.value.retryable
