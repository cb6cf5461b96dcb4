"""Conditioning from kept embeddings is that of the pipeline, bit for bit, whatever becomes of the cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from include.contracts.dispatch import ModelRef
from include.registry.files import FileEntry, FileList
from include.worker.embeddings import Embedding, MemoryEmbeddings, SharedEmbeddings, shared_embeddings, vector_of
from include.worker.pipeline import Pipeline
from include.worker.prompt_cache import Embeds, PromptCache
from models.pipelines.loading import load_text_to_image
from models.pipelines.text_to_image import AtelierTextToImagePipeline
from tests.support.device import DEVICE
from tests.support.leases import REF
from tests.support.tiny_diffusers import FAMILIES, write_tiny_diffusers

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of diffusers with numpy 2

PROMPTS, NEGATIVES, GUIDANCE = ["red heart", "small pizza", "red heart"], ["", "dog", "dog"], [4.0, 3.0, 1.0]


class Blobs:
    """A server of bytes in this process; ``error`` is raised instead where set."""

    max_bytes = 1_000_000

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.calls = 0
        self.error: Exception | None = None

    def get(self, key: str) -> bytes | None:
        self._count()
        return self.kept.get(key)

    def put(self, key: str, value: bytes) -> None:
        self._count()
        self.kept[key] = value

    def close(self) -> None:
        return

    def _count(self) -> None:
        self.calls += 1
        if self.error:
            raise self.error


def no_files(ref: ModelRef) -> None:
    return None


def tensors(conditioning: Any) -> list[torch.Tensor]:
    """All of a conditioning, in order."""
    if isinstance(conditioning, torch.Tensor):
        return [conditioning]
    parts = conditioning if isinstance(conditioning, dict) else vars(conditioning)
    return [tensor for name in sorted(parts) for tensor in tensors(parts[name])]


def assert_same(one: Any, other: Any) -> None:
    pairs = list(zip(tensors(one), tensors(other), strict=True))
    assert pairs and all(torch.equal(left, right) and left.dtype == right.dtype for left, right in pairs)


def counted(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that are encoded from here on."""
    texts: list[str] = []
    for name in ("embed", "embed_negative"):
        embed: Callable[[str], Embedding] = getattr(pipeline, name)
        monkeypatch.setattr(pipeline, name, lambda text, embed=embed: (texts.append(text), embed(text))[1], raising=False)
    return texts


def test_each_text_is_encoded_once(pipeline: AtelierTextToImagePipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, texts = PromptCache(no_files), counted(pipeline, monkeypatch)
    first = cache.encode(pipeline, REF, PROMPTS, NEGATIVES, GUIDANCE)
    assert sorted(texts) == ["", "dog", "red heart", "small pizza"] and list(first.hits) == [False, False, False]
    again = cache.encode(pipeline, REF, PROMPTS[:1], NEGATIVES[1:2], GUIDANCE[:1])
    assert len(texts) == 4 and list(again.hits) == [True]
    assert_same(again.conditioning, pipeline.encode(PROMPTS[:1], NEGATIVES[1:2], GUIDANCE[:1]))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_given_the_same_conditioning(family: str, tmp_path: Path) -> None:
    loaded = load_text_to_image(write_tiny_diffusers(family, tmp_path), DEVICE)
    assert isinstance(loaded, Embeds)
    cache = PromptCache(no_files, shared=SharedEmbeddings(Blobs()))
    negatives = ["", "", ""] if "flux" in family.lower() else NEGATIVES
    for _ in range(2):
        found = cache.encode(loaded, REF, PROMPTS, negatives, GUIDANCE)
        assert_same(found.conditioning, loaded.encode(PROMPTS, negatives, GUIDANCE))
        cache.memory = MemoryEmbeddings()
    assert all(found.hits)


def test_a_text_as_a_prompt_is_not_the_same_text_as_a_negative_prompt(tmp_path: Path) -> None:
    """Stable Diffusion XL encodes no negative prompt as zeros, and an empty prompt as an empty text."""
    loaded, cache = load_text_to_image(write_tiny_diffusers("stable-diffusion-xl", tmp_path), DEVICE), PromptCache(no_files)
    for prompts, negatives in ((["", "dog"], ["", "dog"]), (["dog", ""], ["", "dog"])):
        found = cache.encode(loaded, REF, prompts, negatives, [4.0, 4.0])
        assert_same(found.conditioning, loaded.encode(prompts, negatives, [4.0, 4.0]))


def test_a_pipeline_that_encodes_batches_only_is_left_to_it(pipeline: AtelierTextToImagePipeline) -> None:
    class Whole:
        def encode(self, *texts: Any) -> Any:
            return pipeline.encode(*texts)

    plain: Any = Whole()
    found = PromptCache(no_files).encode(plain, REF, PROMPTS, NEGATIVES, GUIDANCE)
    assert_same(found.conditioning, pipeline.encode(PROMPTS, NEGATIVES, GUIDANCE))
    assert not any(found.hits) and PromptCache(no_files).vector(plain, REF, "red") is None


def test_versions_with_the_same_encoder_share_their_embeddings(pipeline: Pipeline) -> None:
    def files(ref: ModelRef) -> FileList:
        entries = {"network/weights.safetensors": ref.version, "text_encoder/model.safetensors": "e" if ref.version < "3" else "f"}
        return FileList(files={name: FileEntry(sha256=f"{ord(text[0]):064x}", size=1) for name, text in entries.items()})

    cache = PromptCache(files)
    versions = [REF.model_copy(update={"version": version}) for version in ("1", "2", "3")]
    assert [list(cache.encode(pipeline, ref, ["red"], [""], [2.0]).hits) for ref in versions] == [[False], [True], [False]]


def test_memory_is_bounded_in_bytes() -> None:
    memory = MemoryEmbeddings(max_bytes=100)
    for number in range(5):
        memory.put(str(number), {"tokens": torch.zeros(10)})
    assert [memory.get(str(number)) is not None for number in range(5)] == [False, False, False, True, True]
    memory.put("4", {"tokens": torch.zeros(1)})
    assert memory.bytes == 44
    memory.put("huge", {"tokens": torch.zeros(1000)})
    assert memory.bytes == 0


@pytest.mark.parametrize("rot", [lambda blob: blob[:-1], lambda blob: b"", lambda blob: b"\x80\x04" + blob[2:], lambda blob: blob[32:]])
def test_a_rotten_value_is_a_miss(pipeline: Pipeline, rot: Callable[[bytes], bytes]) -> None:
    blobs = Blobs()
    PromptCache(no_files, shared=SharedEmbeddings(blobs)).encode(pipeline, REF, ["red"], [""], [2.0])
    blobs.kept = {key: rot(value) for key, value in blobs.kept.items()}
    found = PromptCache(no_files, shared=SharedEmbeddings(blobs)).encode(pipeline, REF, ["red"], [""], [2.0])
    assert list(found.hits) == [False]
    assert_same(found.conditioning, pipeline.encode(["red"], [""], [2.0]))


def test_an_embedding_of_something_else_is_encoded_anew(pipeline: Pipeline) -> None:
    blobs = Blobs()
    shared = SharedEmbeddings(blobs)
    PromptCache(no_files, shared=shared).encode(pipeline, REF, ["red"], [""], [2.0])
    for key in list(blobs.kept):
        shared.put(key, {"other": torch.zeros(1, 2)})
    found = PromptCache(no_files, shared=shared).encode(pipeline, REF, ["red"], [""], [2.0])
    assert_same(found.conditioning, pipeline.encode(["red"], [""], [2.0]))


def test_a_server_that_is_away_is_asked_again_only_after_a_while() -> None:
    blobs, now = Blobs(), 0.0
    shared = SharedEmbeddings(blobs, clock=lambda: now)
    blobs.error = ConnectionError("refused")
    for _ in range(10):
        assert shared.get("k") is None
    shared.put("k", {"x": torch.zeros(1)})
    assert blobs.calls == 1
    now = 1.1
    assert shared.get("k") is None and blobs.calls == 2
    now = 2.5
    assert shared.get("k") is None and blobs.calls == 2
    now, blobs.error = 4.0, None
    shared.put("k", {"x": torch.ones(1)})
    found = shared.get("k")
    assert found is not None and shared.failures == 0


def test_what_a_server_does_not_take_is_not_sent() -> None:
    blobs = Blobs()
    SharedEmbeddings(blobs).put("k", {"x": torch.zeros(300_000)})
    assert blobs.calls == 0


@pytest.mark.parametrize("address", ["http://h", "redis:", "memcached://", "localhost:6379"])
def test_an_unknown_address_is_refused_with_those_that_are_known(address: str) -> None:
    with pytest.raises(ValueError, match=r"ATELIER_EMBEDDINGS_CACHE: .* use redis://HOST:PORT/DB or memcached://HOST:PORT"):
        shared_embeddings(address)
    assert shared_embeddings("") is None


def test_texts_that_mean_the_same_are_near() -> None:
    states = torch.nn.functional.normalize(torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    pooled = vector_of({"tokens": states, "mask": torch.ones(1, 4, dtype=torch.bool), "pooled": states.mean(1)})
    assert torch.allclose(pooled, vector_of({"tokens": states})) and pooled.norm() == pytest.approx(1.0)
