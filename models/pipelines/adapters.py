"""LoRA adapters (Hu et al. 2021) on loaded weights: several stay loaded, any of them act, and the weights beneath never change."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from peft.tuners.tuners_utils import BaseTunerLayer
from PIL.Image import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from models.networks.hourglass_transformer import HourglassTransformer2DModel

#: Directories that hold one safetensors file each, with the weight that each acts at.
Adapters: TypeAlias = tuple[tuple[Path, float], ...]

MAX_LOADED = 8  #: adapters that one model keeps loaded
_DOWN = (".lora_A.weight", ".lora_down.weight", ".lora.down.weight")  #: one of them for each layer that an adapter changes


class LoraWeights(ABC):
    """The adapters of one set of weights. Not for use by two threads at once."""

    changes_text: ClassVar[bool]  #: whether texts may be encoded differently with an adapter

    def __init__(self) -> None:
        self._loaded: OrderedDict[Path, str] = OrderedDict()
        self._active: Adapters | None = ()  #: None: not what any call asked for
        self._count = 0

    def holds(self, directory: Path) -> bool:
        return directory in self._loaded

    def use(self, adapters: Adapters) -> None:
        """From now on these act, and no others. Raises :class:`ValueError` where one can't be loaded or does not fit."""
        if adapters == self._active:
            return
        self._active = None
        names = [self._ensured(directory) for directory, _ in adapters]
        if names:
            self._enable(names, [weight for _, weight in adapters])
        elif self._loaded:
            self._disable()
        self._evict(keep=len(names))
        self._active = adapters

    def _ensured(self, directory: Path) -> str:
        if directory not in self._loaded:
            self._loaded[directory] = self._load_checked(directory)
        self._loaded.move_to_end(directory)
        return self._loaded[directory]

    def _load_checked(self, directory: Path) -> str:
        file = adapter_file(directory)
        expected = _layers_of(file)
        self._count += 1
        name = f"adapter_{self._count}"
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)  # several are what is wanted
                self._load(file, name)
            changed = sum(1 for module in self._modules() for layer in _tuned(module) if name in layer.scaling)
            if changed < expected:
                raise ValueError(f"{expected - changed} of the {expected} layers that it changes are not in this model")
        except Exception as error:  # torch, peft and diffusers each have their own for weights that don't fit
            self._drop(name)
            raise ValueError(f"the adapter does not fit the model: {_first_line(error)}") from error
        return name

    def _evict(self, keep: int) -> None:
        while len(self._loaded) > max(MAX_LOADED, keep):
            _, name = self._loaded.popitem(last=False)
            self._drop(name)

    def _drop(self, name: str) -> None:
        for module in self._modules():
            for layer in _tuned(module):
                layer.delete_adapter(name)
            getattr(module, "peft_config", {}).pop(name, None)
        if not self._loaded:
            self._unload()

    @abstractmethod
    def _modules(self) -> list[nn.Module]:
        """What adapters may change."""

    @abstractmethod
    def _load(self, file: Path, name: str) -> None: ...

    @abstractmethod
    def _enable(self, names: list[str], weights: list[float]) -> None: ...

    @abstractmethod
    def _disable(self) -> None: ...

    @abstractmethod
    def _unload(self) -> None:
        """Put the layers back that were there before any adapter."""


class PipelineLora(LoraWeights):
    """Of a diffusers pipeline: network and text encoders, in any file format that diffusers reads."""

    changes_text = True

    def __init__(self, pipe: Any) -> None:
        super().__init__()
        self.pipe = pipe

    def _modules(self) -> list[nn.Module]:
        found = [getattr(self.pipe, name, None) for name in self.pipe._lora_loadable_modules]
        return [module for module in found if module is not None]

    def _load(self, file: Path, name: str) -> None:
        self.pipe.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name=name, local_files_only=True, use_safetensors=True)

    def _enable(self, names: list[str], weights: list[float]) -> None:
        self.pipe.enable_lora()
        self.pipe.set_adapters(names, weights)

    def _disable(self) -> None:
        self.pipe.disable_lora()

    def _unload(self) -> None:
        self.pipe.unload_lora_weights()


class NetworkLora(LoraWeights):
    """Of our own network, in diffusers' file format: its linear layers, with one of :attr:`PREFIXES` or nothing before their names."""

    changes_text = False
    PREFIXES = ("network", "transformer")

    def __init__(self, network: HourglassTransformer2DModel) -> None:
        super().__init__()
        self.network: Any = network

    def _modules(self) -> list[nn.Module]:
        return [self.network]

    def _load(self, file: Path, name: str) -> None:
        keys = _keys(file)
        prefix = next((prefix for prefix in self.PREFIXES if all(key.startswith(f"{prefix}.") for key in keys)), None)
        self.network.load_lora_adapter(
            str(file.parent), prefix=prefix, weight_name=file.name, adapter_name=name, local_files_only=True, use_safetensors=True
        )

    def _enable(self, names: list[str], weights: list[float]) -> None:
        self.network.enable_lora()
        self.network.set_adapters(names, weights)

    def _disable(self) -> None:
        self.network.disable_lora()

    def _unload(self) -> None:
        self.network.unload_lora()


class AdaptablePipeline:
    """A pipeline whose text encoders and network act with the adapters of this view, whatever other views did in between."""

    def __init__(self, pipeline: Any, lora: LoraWeights, adapters: Adapters = ()) -> None:
        self.pipeline = pipeline
        self.lora = lora
        self.adapters = adapters

    @property
    def backend(self) -> str:
        return str(self.pipeline.backend)

    @property
    def joins(self) -> bool:
        return bool(self.pipeline.joins)

    @property
    def components(self) -> dict[str, Any]:
        return dict(self.pipeline.components)

    def with_adapters(self, adapters: Sequence[tuple[Path, float]]) -> AdaptablePipeline:
        """Raises :class:`ValueError` where one can't be loaded or does not fit."""
        view = AdaptablePipeline(self.pipeline, self.lora, tuple(adapters))
        self.lora.use(view.adapters)
        return view

    def holds(self, adapter: Path) -> bool:
        return self.lora.holds(adapter)

    @property
    def text_variant(self) -> str:
        """The same for views that encode texts the same."""
        acting = self.adapters if self.lora.changes_text else ()
        return "+".join([type(self.pipeline).__qualname__, *(f"{path.name}*{weight:g}" for path, weight in acting)])

    def embed(self, text: str) -> dict[str, Tensor]:
        self.lora.use(self.adapters)
        return dict(self.pipeline.embed(text))

    def embed_negative(self, text: str) -> dict[str, Tensor]:
        self.lora.use(self.adapters)
        return dict(self.pipeline.embed_negative(text))

    def wants_negatives(self, negative_prompts: Sequence[str], guidance: Sequence[float]) -> bool:
        return bool(self.pipeline.wants_negatives(negative_prompts, guidance))

    def condition(self, positive: Sequence[Any], negative: Sequence[Any], guidance: Sequence[float]) -> Any:
        return self.pipeline.condition(positive, negative, guidance)

    def encode(self, prompts: Sequence[str], negative_prompts: Sequence[str], guidance: Sequence[float]) -> Any:
        self.lora.use(self.adapters)
        return self.pipeline.encode(prompts, negative_prompts, guidance)

    def prepare(self, conditioning: Any, seeds: Sequence[int], width: int, height: int, steps: int, start: Any = None) -> Any:
        return self.pipeline.prepare(conditioning, seeds, width, height, steps, start)

    def step(self, state: Any) -> Any:
        self.lora.use(self.adapters)
        return self.pipeline.step(state)

    def decode(self, state: Any) -> list[Image]:
        return list(self.pipeline.decode(state))

    def preview(self, state: Any) -> list[Image]:
        return list(self.pipeline.preview(state))

    def restore(self, data: bytes) -> Any:
        return self.pipeline.restore(data)


def adapter_file(directory: Path) -> Path:
    """The one file of weights. Raises :class:`ValueError` where there is none, or one too many."""
    found = sorted(directory.glob("*.safetensors"))
    if len(found) != 1:
        raise ValueError(f"an adapter is a directory with one safetensors file; this one holds {len(found)}")
    return found[0]


def _keys(file: Path) -> list[str]:
    try:
        with safe_open(file, "pt") as weights:
            return list(weights.keys())
    except SafetensorError as error:
        raise ValueError(f"{file.name} is not a safetensors file: {error}") from error


def _layers_of(file: Path) -> int:
    """How many layers it changes. Raises :class:`ValueError` for a file that is no LoRA."""
    count = sum(key.endswith(_DOWN) for key in _keys(file))
    if not count:
        raise ValueError(f"{file.name} holds no LoRA: no tensor's name ends in {' or '.join(_DOWN)}")
    return count


def _tuned(module: nn.Module) -> Iterator[Any]:
    return (layer for layer in module.modules() if isinstance(layer, BaseTunerLayer))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
