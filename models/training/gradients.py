"""The gradient of a step's whole batch, in as many passes and on as many processes as it takes."""

from __future__ import annotations

import math

import torch

from models.training.data import Batch
from models.training.run import Run
from models.training.state import DivergedError


def backward(run: Run, batch: Batch) -> float:
    """Leaves the gradient of the step's mean loss in the weights, the same in every process, and returns that loss.

    Where memory runs out, half as many samples go through at a time from here on; the gradient is still that of the whole batch.
    Raises :class:`DivergedError` for a loss that is no finite number.

    :param batch: this process's share of the step's
    """
    share = batch.to(run.accelerator.device, run.precision)
    while True:
        try:
            loss = _accumulate(run, share)
            break
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or run.state.micro_batch == 1:
                raise
        _halve(run)
    loss = _over_processes(run, loss)
    if not math.isfinite(loss):
        run.state.forget_gradients()
        raise DivergedError(f"the loss is {loss} at step {run.state.step + 1}")
    return loss


def _accumulate(run: Run, share: Batch) -> float:
    predict, total = run.family.predictor(run.state.working), 0.0
    for start in range(0, len(share), run.state.micro_batch):
        part = share[start : start + run.state.micro_batch]
        loss = run.objective.loss(predict, part.images, part.text, part.levels, part.noise).sum() / run.config.batch_size
        run.accelerator.backward(loss)
        run.state.collect()
        total += loss.item()
    return total


def is_out_of_memory(error: BaseException) -> bool:
    """Of a GPU, by its exception; of a CPU, where PyTorch has none of its own."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def _halve(run: Run) -> None:
    state = run.state
    state.forget_gradients()
    if run.accelerator.device.type == "cuda":
        torch.cuda.empty_cache()
    passes = -(-min(state.micro_batch, run.config.batch_size) // 2)
    state.micro_batch = passes
    print(f"step {state.step + 1}: out of memory; from here on {passes} samples go through at a time, and more often", flush=True)


def _over_processes(run: Run, loss: float) -> float:
    """Sums gradients and loss over the processes, each of which has its share of the batch."""
    if run.accelerator.num_processes == 1:
        return loss
    gradients = run.state.gradients()
    flat = torch.cat([*(gradient.flatten() for gradient in gradients), torch.tensor([loss], device=run.accelerator.device)])
    flat = run.accelerator.reduce(flat, reduction="sum")
    for gradient, summed in zip(gradients, flat.split([gradient.numel() for gradient in gradients] + [1])[:-1], strict=True):
        gradient.copy_(summed.view_as(gradient))
    return float(flat[-1].item())
