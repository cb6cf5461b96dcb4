from __future__ import annotations

import pytest

from include.worker.run import DeviceError, prepare_device


@pytest.mark.parametrize("device", ["tpu:1", "gpu", "", "CPU"])
def test_a_device_of_another_kind_is_refused_with_the_fix(device: str) -> None:
    with pytest.raises(DeviceError, match="use cpu or cuda:N"):
        prepare_device(device, threads=1)


@pytest.mark.parametrize("device", ["cuda:64", "cuda:x"])
def test_a_gpu_that_is_not_there_is_refused_with_the_fix(device: str) -> None:
    with pytest.raises(DeviceError, match=r"use cpu or cuda:N"):
        prepare_device(device, threads=1)
