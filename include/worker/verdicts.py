"""What was measured of a model's backends on this machine, and which of them is chosen for that."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Set
from math import sqrt
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from include.worker.kept import write_whole
from include.worker.parity import Deviation

log = logging.getLogger(__name__)

AUTO, EAGER = "auto", "torch-eager"


class Measured(BaseModel):
    """One backend at one size of one model."""

    model_config = ConfigDict(frozen=True)

    refused: str | None = Field(None, description="Why it must not be used; None where its images are right.")
    step_s: float | None = Field(None, gt=0, description="Seconds of a step of one image.")
    batch_step_s: float | None = Field(None, gt=0, description="Seconds of a step of a whole batch.")
    from_eager: Deviation | None = Field(None, description="Of the image after each step, from the same state as torch-eager.")
    finished: Deviation | None = Field(None, description="Of its finished images from those of torch-eager: steps amplify each other.")
    in_batch: Deviation | None = Field(None, description="Of its batched images from its single ones.")

    def timed(self, *, step_s: float, batch_step_s: float) -> Measured:
        """With these times where they are the least so far: what else a machine does only ever adds."""
        known = (self.step_s or step_s, self.batch_step_s or batch_step_s)
        return self.model_copy(update={"step_s": min(step_s, known[0]), "batch_step_s": min(batch_step_s, known[1])})

    @property
    def pace(self) -> float:
        """Single renders and batches count alike."""
        return sqrt(self.step_s * self.batch_step_s) if self.step_s and self.batch_step_s else float("inf")


class Verdict(BaseModel):
    """One size of one model."""

    model_config = ConfigDict(frozen=True)

    width: int
    height: int
    batch: int = Field(description="Images of the batch that was measured.")
    signature: str = Field(description="Key of the denoiser's calls at that size.")
    backends: dict[str, Measured]

    def choose(self, wanted: str) -> str:
        """The backend that is to run it: the fastest that is right, or ``wanted`` itself unless that is not right."""
        if wanted == AUTO:
            right = {name: measured for name, measured in self.backends.items() if measured.refused is None}
            return min(right, key=lambda name: right[name].pace, default=EAGER)
        measured = self.backends.get(wanted)
        return wanted if measured is not None and measured.refused is None else EAGER


class Verdicts:
    """Those of one model, in its folder; a file for each size."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self) -> list[Verdict]:
        found = (self._read(path) for path in sorted(self.folder.glob("*x*.json")))
        return [verdict for verdict in found if verdict is not None]

    def has(self, width: int, height: int, wanted: str) -> bool:
        """Whether nothing is left to find out about that size."""
        verdict = self._read(self._path(width, height))
        return verdict is not None and (wanted == AUTO or wanted in verdict.backends)

    def write(self, verdict: Verdict) -> None:
        """Adds to what is known of that size. Raises :class:`OSError`."""
        path = self._path(verdict.width, verdict.height)
        known = self._read(path)
        if known is not None:
            verdict = verdict.model_copy(update={"backends": {**known.backends, **verdict.backends}})
        write_whole(path, verdict.model_dump_json(indent=1))

    def _path(self, width: int, height: int) -> Path:
        return self.folder / f"{width}x{height}.json"

    def _read(self, path: Path) -> Verdict | None:
        try:
            return Verdict.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            log.warning("%s can't be read and is made anew: %s", path, error)
            return None


class Chosen:
    """Backends by signature and by size, as they stood when the model was loaded: a render ends on what it began with."""

    def __init__(self, verdicts: Iterable[Verdict], wanted: str) -> None:
        self._by_size: dict[tuple[int, int], str] = {}
        self._by_signature: dict[str, str] = {}
        for verdict in verdicts:
            name = verdict.choose(wanted)
            self._by_size[verdict.width, verdict.height] = name
            self._by_signature[verdict.signature] = name

    def for_signature(self, key: str) -> str:
        return self._by_signature.get(key, EAGER)

    @property
    def sizes(self) -> Set[tuple[int, int]]:
        """Widths and heights that were measured."""
        return self._by_size.keys()

    def for_size(self, width: int, height: int) -> str:
        return self._by_size.get((width, height), EAGER)
