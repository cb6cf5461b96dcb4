"""Files of weights whose digest is right and whose header lies: the version is refused for good, and the worker serves on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from include.contracts.dispatch import ModelRef
from include.worker.cache import ModelCache, ModelLoadError
from include.worker.golden import golden_check
from include.worker.pipeline import load_torch
from tests.support.leases import REF
from tests.support.tiny_diffusers import write_tiny_diffusers
from tests.support.tiny_pipeline import write_tiny_pipeline

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of diffusers with numpy 2

GOOD, BAD = REF, REF.model_copy(update={"version": "2", "digest": "1" * 64})
LENGTH_BYTES = 8


def rewritten(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    """The file with another header in front of the same tensors; ``change`` alters it or gives another."""

    def write(data: bytes) -> bytes:
        end = LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "little")
        header = json.loads(data[LENGTH_BYTES:end])
        header.pop("__metadata__", None)
        replaced = change(header)
        text = json.dumps(header if replaced is None else replaced).encode()
        return len(text).to_bytes(LENGTH_BYTES, "little") + text + data[end:]

    return write


def last(header: dict[str, Any]) -> dict[str, Any]:
    """The tensor at the end of the file."""
    found: dict[str, Any] = max(header.values(), key=lambda tensor: tensor["data_offsets"][1])
    return found


def longer(header: dict[str, Any]) -> None:
    last(header)["data_offsets"][1] += 10**12


def overlapping(header: dict[str, Any]) -> None:
    for tensor in header.values():
        tensor["data_offsets"] = [0, tensor["data_offsets"][1] - tensor["data_offsets"][0]]


def of_another_shape(header: dict[str, Any]) -> None:
    last(header)["shape"] = [10**9, 10**9]


def of_no_type(header: dict[str, Any]) -> None:
    last(header)["dtype"] = "PICKLE"


def renamed(header: dict[str, Any]) -> None:
    name = next(name for name, tensor in header.items() if len(tensor["shape"]) > 1)
    header["somebody.elses.weight"] = header.pop(name)


def reshaped(header: dict[str, Any]) -> None:
    tensor = next(tensor for tensor in header.values() if len(tensor["shape"]) > 1 and tensor["shape"][0] != tensor["shape"][1])
    tensor["shape"] = [tensor["shape"][1], tensor["shape"][0], *tensor["shape"][2:]]


LIES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "a length beyond any file": lambda data: b"\xff" * LENGTH_BYTES + data[LENGTH_BYTES:],
    "a length beyond the file": lambda data: len(data).to_bytes(LENGTH_BYTES, "little") + data[LENGTH_BYTES:],
    "no header": lambda data: bytes(LENGTH_BYTES) + data[LENGTH_BYTES:],
    "no object": rewritten(lambda header: [1, 2, 3]),
    "longer than the file": rewritten(longer),
    "overlapping": rewritten(overlapping),
    "another shape than bytes": rewritten(of_another_shape),
    "an unknown type": rewritten(of_no_type),
    "a tensor under another name": rewritten(renamed),
    "a network of another shape": rewritten(reshaped),
    "a tensor less": lambda data: data[:-64],
}


class Directories:
    """Versions by digest, with all files in place."""

    def __init__(self, directories: dict[str, Path]) -> None:
        self.directories = directories

    def fetch(self, ref: ModelRef) -> Path:
        return self.directories[ref.digest]

    def release(self, ref: ModelRef) -> None:
        return


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize(
    ("family", "weights"),
    [("ours", "network/diffusion_pytorch_model.safetensors"), ("stable-diffusion", "unet/diffusion_pytorch_model.safetensors")],
)
def test_a_header_that_lies_refuses_its_version_and_no_other(tmp_path: Path, family: str, weights: str, lie: str) -> None:
    good = write_tiny_pipeline(tmp_path / "good")
    bad = write_tiny_pipeline(tmp_path / "bad") if family == "ours" else write_tiny_diffusers(family, tmp_path / "bad")
    (bad / weights).write_bytes(LIES[lie]((bad / weights).read_bytes()))
    cache = ModelCache(Directories({GOOD.digest: good, BAD.digest: bad}), load_torch, check=golden_check)
    with pytest.raises(ModelLoadError, match="tiny/2 can't be served: ") as raised:
        cache.get(BAD)
    assert not raised.value.retryable and cache.refused().keys() == {BAD.key}
    assert cache.get(GOOD).backend == "torch-eager" and cache.warm() == (GOOD.key,)
