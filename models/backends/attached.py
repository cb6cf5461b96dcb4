"""A denoiser whose ``forward`` is run by a backend: by the one that was chosen for calls of its signature, and eagerly otherwise.

The module itself stays what it is, with its weights, configuration and hooks; only ``forward`` is shadowed on the instance, as
``torch.nn.Module.compile`` does it. So pipelines need not know of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

from torch import nn

from models.backends.base import Backend, BackendError, Prepared, Run
from models.backends.calls import Call, CallError
from models.pipelines.interruption import InterruptedStepError

log = logging.getLogger(__name__)

EAGER = "torch-eager"
MAX_FORMS = 256  #: of calls whose keys are remembered
DENOISERS = ("network", "transformer", "unet")  #: names of the component that runs at every step

#: The backend for calls of a signature, which is given by its key; None for eager.
Choice = Callable[[str], Backend | None]


def denoiser_of(pipeline: object) -> nn.Module:
    """The pipeline's component that runs at every step. Raises :class:`BackendError` for a pipeline without one."""
    components = getattr(pipeline, "components", {})
    for name in DENOISERS:
        if isinstance(components.get(name), nn.Module):
            return components[name]
    raise BackendError(f"{type(pipeline).__name__} has no component called {', '.join(DENOISERS)}")


def attachment_of(pipeline: object) -> Attachment | None:
    """What stands in for ``forward`` of the pipeline's denoiser, if anything does."""
    try:
        shadow = vars(denoiser_of(pipeline)).get("forward")
    except BackendError:
        return None
    return shadow if isinstance(shadow, Attachment) else None


class Attachment:
    """Stands in for ``forward`` from its creation until :meth:`detach`. For one thread at a time, as the pipeline is.

    A backend that raises is not asked again for this model: the call that it failed and all later ones run eagerly. Out of memory is
    passed on, for eager would need more.

    :param folder: what backends keep of this model, a folder for each signature
    :param choice: asked once for each signature
    :param on_run: told which backend ran a call, whenever it is another one than before
    """

    def __init__(self, denoiser: nn.Module, folder: Path, choice: Choice, on_run: Callable[[str], None] = lambda name: None) -> None:
        self.denoiser = denoiser
        self.folder = folder
        self.choice = choice
        self.on_run = on_run
        self.ran = EAGER
        self.failed: dict[str, str] = {}  #: by backend, what it raised
        self.last_call: Call | None = None
        self._eager = denoiser.forward
        self._keys: dict[Hashable, str] = {}
        self._prepared: dict[str, Prepared] = {}
        self._opened: dict[str, tuple[str, Run | None]] = {}
        denoiser.forward = self  # type: ignore[method-assign]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = self._call(args, kwargs)
        if call is not None:
            name, run = self._opened_for(call)
            if run is not None:
                try:
                    result = run(call)
                except InterruptedStepError:
                    raise
                except Exception as error:  # whatever a compiled graph raises costs its speed, never the render
                    if _out_of_memory(error):
                        raise
                    self._give_up(name, error)
                else:
                    self._say(name)
                    return result
        self._say(EAGER)
        return self._eager(*args, **kwargs)

    def detach(self) -> None:
        if vars(self.denoiser).get("forward") is self:
            del self.denoiser.forward
        self._say(EAGER)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """None for a call that only eager can run."""
        if adapted(self.denoiser):  # graphs and copies hold the weights as they were without adapters
            return None
        try:
            self.last_call = Call.of(self.denoiser, args, kwargs)
        except CallError:
            return None
        return self.last_call

    def _opened_for(self, call: Call) -> tuple[str, Run | None]:
        form = call.form
        if form not in self._keys:
            if len(self._keys) >= MAX_FORMS:
                self._keys.clear()
            self._keys[form] = call.key
        key = self._keys[form]
        if key not in self._opened:
            self._opened[key] = self._open(call, key)
        return self._opened[key]

    def _open(self, call: Call, key: str) -> tuple[str, Run | None]:
        backend = self.choice(key)
        if backend is None or backend.name == EAGER or backend.name in self.failed:
            return EAGER, None
        try:
            if backend.name not in self._prepared:
                self._prepared[backend.name] = backend.prepare(self.denoiser)
            return backend.name, self._prepared[backend.name].open(call, self.folder / key)
        except Exception as error:  # as for a call
            self._give_up(backend.name, error)
            return EAGER, None

    def _give_up(self, name: str, error: Exception) -> None:
        said = str(error).strip().partition("\n")[0][:300]
        self.failed[name] = f"{type(error).__name__}: {said}"
        self._opened = {key: (EAGER, None) if opened[0] == name else opened for key, opened in self._opened.items()}
        log.warning("%s: backend %s failed and torch-eager takes over: %s", type(self.denoiser).__name__, name, self.failed[name])

    def _say(self, name: str) -> None:
        if name != self.ran:
            self.ran = name
            self.on_run(name)


def adapted(denoiser: nn.Module) -> bool:
    """Whether LoRA adapters change what the denoiser computes."""
    if not getattr(denoiser, "peft_config", None):
        return False
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = (module for module in denoiser.modules() if isinstance(module, BaseTunerLayer))
    return any(layer.active_adapters and not layer.disable_adapters for layer in layers)


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "out of memory" in str(error).lower()
