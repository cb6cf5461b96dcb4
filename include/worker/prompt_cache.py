"""Prompts that were encoded before are not encoded again, on this worker or, with a shared cache, on any."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from include.contracts.dispatch import ModelRef
from include.registry.files import FileList
from include.worker.embeddings import Embedding, MemoryEmbeddings, SharedEmbeddings, vector_of
from include.worker.pipeline import Pipeline
from include.worker.ports import Encoded

log = logging.getLogger(__name__)

#: Files that decide what a text is encoded to: encoders and tokenizers, and the networks' configurations, which say how long it may be.
ENCODERS, CONFIGURATION = ("text_encoder", "tokenizer"), "/config.json"


@runtime_checkable
class Embeds(Protocol):
    """A pipeline that encodes text by text, so that each may be kept. Its ``encode`` is ``condition`` of what these give."""

    def embed(self, text: str) -> Embedding:
        """Of one prompt, each tensor with a leading 1."""

    def embed_negative(self, text: str) -> Embedding:
        """Of one negative prompt."""

    def wants_negatives(self, negative_prompts: Sequence[str], guidance: Sequence[float]) -> bool:
        """Whether ``condition`` reads negative embeddings at such guidance. Raises :class:`ValueError` for what the model can't take."""

    def condition(self, positive: Sequence[Embedding], negative: Sequence[Embedding], guidance: Sequence[float]) -> Any:
        """Conditioning of the items; ``negative`` is empty where none are wanted."""


class PromptCache:
    """As :class:`include.worker.ports.PromptEncoder`. Pipelines that can't encode text by text encode every prompt anew.

    :param files: the verified files of a version, None where they are not known
    """

    def __init__(
        self,
        files: Callable[[ModelRef], FileList | None],
        memory: MemoryEmbeddings | None = None,
        shared: SharedEmbeddings | None = None,
    ) -> None:
        self.files = files
        self.memory = memory or MemoryEmbeddings()
        self.shared = shared
        self.hits = 0
        self.misses = 0

    def encode(
        self, pipeline: Pipeline, model: ModelRef, prompts: Sequence[str], negative_prompts: Sequence[str], guidance: Sequence[float]
    ) -> Encoded:
        if not isinstance(pipeline, Embeds):
            return Encoded(pipeline.encode(prompts, negative_prompts, guidance), [False] * len(prompts))
        wanted = pipeline.wants_negatives(negative_prompts, guidance)
        texts = _Texts(self, pipeline, self.encoder_of(pipeline, model))
        positive = [texts.positive(prompt) for prompt in prompts]
        negative = [texts.negative(prompt) for prompt in negative_prompts] if wanted else []
        hits = [
            prompt not in texts.new and (not wanted or other not in texts.new_negative)
            for prompt, other in zip(prompts, negative_prompts, strict=True)
        ]
        try:
            return Encoded(pipeline.condition(positive, negative, guidance), hits)
        except Exception as error:
            if not texts.came_from_outside:
                raise
            log.warning("the embeddings cache holds what does not fit %s; encoded anew: %s", model.key, error)
            return Encoded(pipeline.encode(prompts, negative_prompts, guidance), [False] * len(prompts))

    def vector(self, pipeline: Pipeline, model: ModelRef, prompt: str) -> Tensor | None:
        """What the prompt means, as one vector of length 1; None where the pipeline does not tell."""
        if not isinstance(pipeline, Embeds):
            return None
        return vector_of(_Texts(self, pipeline, self.encoder_of(pipeline, model)).positive(prompt))

    def encoder_of(self, pipeline: Pipeline, model: ModelRef) -> str:
        """The same for versions whose texts are encoded the same."""
        files, kind = self.files(model), getattr(pipeline, "text_variant", type(pipeline).__qualname__)
        if files is None:
            return f"{kind}/{model.digest}"
        facts = sorted(f"{name} {entry.sha256}" for name, entry in files.files.items() if _decides(name))
        return f"{kind}/{_digest(*facts)}"


class _Texts:
    """One call's look-ups: each text once."""

    def __init__(self, cache: PromptCache, pipeline: Embeds, encoder: str) -> None:
        self.cache = cache
        self.pipeline = pipeline
        self.encoder = encoder
        self.new: set[str] = set()  #: prompts that were encoded now
        self.new_negative: set[str] = set()
        self.came_from_outside = False

    def positive(self, text: str) -> Embedding:
        return self._embedding("positive", text, self.pipeline.embed, self.new)

    def negative(self, text: str) -> Embedding:
        return self._embedding("negative", text, self.pipeline.embed_negative, self.new_negative)

    def _embedding(self, role: str, text: str, embed: Callable[[str], Embedding], new: set[str]) -> Embedding:
        cache = self.cache
        key = f"atelier:embedding:1:{_digest(self.encoder, role, text)}"
        found = cache.memory.get(key)
        if found is None and cache.shared is not None:
            found = cache.shared.get(key)
            if found is not None:
                self.came_from_outside = True
                cache.memory.put(key, found)
        if found is not None:
            cache.hits += text not in new
            return found
        cache.misses += 1
        new.add(text)
        made: Mapping[str, Tensor] = embed(text)
        cache.memory.put(key, made)
        if cache.shared is not None:
            cache.shared.put(key, made)
        return made


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _decides(name: str) -> bool:
    return name.startswith(ENCODERS) or name.endswith(CONFIGURATION)
