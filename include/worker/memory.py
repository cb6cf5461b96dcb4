"""Memory of weights and devices."""

from __future__ import annotations

from include.worker.pipeline import Pipeline


def memory_bytes(pipeline: Pipeline) -> int:
    """Bytes of all weights, each tensor counted once however many components share it."""
    components = getattr(pipeline, "components", {}).values()
    modules = [module for module in components if hasattr(module, "parameters")]
    tensors = {tensor.data_ptr(): tensor for module in modules for tensor in (*module.parameters(), *module.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def model_budget(device: str, share: float = 0.5) -> int:
    """Bytes that loaded models may take: a share of what is free now, for renders and other processes need the rest."""
    return int(share * free_memory_mb(device) * 1e6)


def free_memory_mb(device: str) -> float:
    """Free memory of the device, of the machine for cpu."""
    if device.startswith("cuda"):
        import torch  # loaded already where a CUDA device is used

        return torch.cuda.mem_get_info(device)[0] / 1e6
    import psutil

    return psutil.virtual_memory().available / 1e6


def is_out_of_memory(error: BaseException) -> bool:
    """torch says it with a type of its own on CUDA, and with a plain RuntimeError on the CPU."""
    words = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and ("out of memory" in words or "can't allocate memory" in words))
    )


def free_memory(device: str) -> None:
    if device.startswith("cuda"):
        import torch  # loaded already where a CUDA device is used

        torch.cuda.empty_cache()
