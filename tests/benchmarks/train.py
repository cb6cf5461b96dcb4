"""The trainer beside the loop of diffusers' ``train_text_to_image.py``, and a run that is killed beside one that is not.

Both loops train one and the same ``UNet2DConditionModel`` of 11 M parameters from the same weights on the same batches, captions, noise
and noise levels: 32-pixel images, batch 32, DDPM with noise prediction, AdamW, gradients clipped. The reference is the example's loop as
it stands without options: eager, fp32, the text encoder (MiniLM here, for want of CLIP's weights) run in every step. Its autoencoder is
left out, which only flatters it. Ours is the product's own step (``batch_at``, ``backward``, ``TrainingState.update``) with what the
product does: embeddings encoded once, channels last, bf16 beside fp32 weights; the moving average is kept, which the example does not.

They take turns, a few steps each, so that both see the same machine.

- ``ratio``: median over the turns of our steps a second over the reference's of the same turn; ``ours_steps_per_s`` and
  ``reference_steps_per_s`` are medians.
- ``loss_ratio``: our mean loss over the reference's, over all steps but the first; 1 is the same curve.
- ``resume_identical``: whether a run that is killed by SIGKILL in the middle of an epoch and started again ends with every weight, average
  and optimizer moment of a run that was not, bit for bit. ``resumed_at``: the step that it went on from.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from accelerate import Accelerator
from diffusers import DDPMScheduler, UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn

from models.pipelines.text_encoder import TextEmbeddings, load_text_encoder
from models.training.checkpoints import Checkpoints
from models.training.config import TrainingConfig
from models.training.data import TrainingData, batch_at, load_data, load_held_out
from models.training.encoding import Encoders
from models.training.families.base import Family
from models.training.families.hourglass import TokenStates
from models.training.gradients import backward
from models.training.lock import RunLock
from models.training.objectives.base import Predictor
from models.training.objectives.ddpm import Ddpm
from models.training.run import Place, Run, assemble_run
from tests.support.tiny_dataset import write_tiny_dataset

ROOT = Path(__file__).resolve().parents[2]
LENGTH, SIDE = 16, 32
CONFIG = TrainingConfig(batch_size=32, optimizer="adamw", learning_rate=2e-4, warmup_steps=5, max_steps=10_000, precision="bf16")
UNET: dict[str, Any] = {
    "sample_size": SIDE,
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": (64, 128, 192),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 384,
    "attention_head_dim": 4,  # despite its name the number of heads
}


class UNetOnPixels(Family):
    """Only what a step asks of a family."""

    attention, component, multiple, memory_format = (), "unet", 4, torch.channels_last

    def __init__(self, network: UNet2DConditionModel, texts: TokenStates) -> None:
        self.network, self.texts = network, texts

    def objective(self, config: TrainingConfig) -> Ddpm:
        return Ddpm.of(dict(DDPMScheduler().config), None)

    def predictor(self, network: nn.Module) -> Predictor:
        def predict(sample: Tensor, timestep: Tensor, text: Tensor, mask: Tensor, _pooled: Tensor, /) -> Tensor:
            sample = sample.contiguous(memory_format=self.memory_format)
            return network(sample, timestep, encoder_hidden_states=text, encoder_attention_mask=mask, return_dict=False)[0]

        return predict

    def checkpoint_gradients(self, network: nn.Module) -> None:
        raise NotImplementedError

    def render(self, network: nn.Module, prompts: Sequence[str], steps: int, guidance: float) -> list[Image.Image]:
        raise NotImplementedError

    def save(self, network: nn.Module, directory: Path) -> None:
        raise NotImplementedError

    def sides(self) -> tuple[int, int]:
        return SIDE, SIDE


@dataclass
class Reference:
    """The example's loop, one step at a time."""

    unet: UNet2DConditionModel
    text: TokenStates
    data: TrainingData  #: whose "embeddings" are token ids
    objective: Ddpm
    accelerator: Accelerator

    def __post_init__(self) -> None:
        self.schedule = DDPMScheduler()
        optimizer = torch.optim.AdamW(self.unet.parameters(), lr=1.0, betas=(0.9, 0.98), weight_decay=CONFIG.weight_decay)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, CONFIG.learning_rate_at)
        self.unet, self.optimizer, self.scheduler = self.accelerator.prepare(self.unet.train(), optimizer, scheduler)

    def step(self, step: int) -> float:
        batch = batch_at(self.data, CONFIG, self.objective, step)
        noisy = self.schedule.add_noise(batch.images, batch.noise, batch.levels)
        states = self.text.encoder(input_ids=batch.text.tokens, attention_mask=batch.text.mask.long())[0]
        prediction = self.unet(noisy, batch.levels, states, encoder_attention_mask=batch.text.mask, return_dict=False)[0]
        loss = F.mse_loss(prediction.float(), batch.noise.float(), reduction="mean")
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.unet.parameters(), CONFIG.gradient_clip)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        return float(loss.detach().item())


class Ours:
    def __init__(self, run: Run) -> None:
        self.run = run

    def step(self, step: int) -> float:
        loss = backward(self.run, batch_at(self.run.train, CONFIG, self.run.objective, step))
        self.run.state.update()
        return loss


def loops(folder: Path) -> tuple[Ours, Reference]:
    encoder, tokenizer = load_text_encoder()
    texts = TokenStates(encoder, tokenizer, LENGTH)
    manifest = write_tiny_dataset(folder / "data", {"train": 256, "validation": 8}, [(SIDE, SIDE)])
    data = load_data(manifest, "train", CONFIG, Encoders(texts=texts))
    torch.manual_seed(0)
    network = UNet2DConditionModel(**UNET)
    print(f"{sum(weight.numel() for weight in network.parameters()) / 1e6:.1f} M parameters", file=sys.stderr)
    accelerator, family = Accelerator(cpu=True), UNetOnPixels(copy.deepcopy(network), texts)
    run = assemble_run(
        CONFIG, Place(dataset=str(manifest), output=folder / "run", init=""), family, RunLock(folder / "run"), accelerator,
        data=(data, load_held_out(manifest, "validation", CONFIG, Encoders(texts=texts), 8)), objective=family.objective(CONFIG), steps=1,
    )  # fmt: skip
    return Ours(run), Reference(network, texts, token_ids(data, manifest, texts), family.objective(CONFIG), accelerator)


def token_ids(data: TrainingData, manifest: Path, texts: TokenStates) -> TrainingData:
    """The same samples with the token ids of a caption where its embedding was."""

    @dataclass(frozen=True)
    class Ids:
        identity: str = "ids"

        def token_count(self, text: str) -> int:
            return LENGTH

        def encode(self, captions: Sequence[str]) -> TextEmbeddings:
            found = texts.tokenizer(list(captions), padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
            return TextEmbeddings(found["input_ids"], found["attention_mask"].bool(), torch.zeros(len(captions), 0))

    tokens = load_data(manifest, "train", CONFIG, Encoders(texts=Ids()))
    return replace(data, images=tokens.images, text=tokens.text)


def race(ours: Ours, reference: Reference, turns: int, steps: int, limit_s: float) -> dict[str, Any]:
    """Turns of a few steps each, the first of which warms up; ends early when ``limit_s`` is over."""
    losses: dict[str, list[float]] = {"ours": [], "reference": []}
    speeds: dict[str, list[float]] = {"ours": [], "reference": []}
    began = time.monotonic()
    for turn in range(turns + 1):
        order = [("ours", ours), ("reference", reference)]
        for name, loop in order if turn % 2 else reversed(order):
            started = time.monotonic()
            losses[name] += [loop.step(turn * steps + index) for index in range(steps)]
            if turn:
                speeds[name].append(steps / (time.monotonic() - started))
        rates = ", ".join(f"{name} {rate[-1]:.3f} steps/s" for name, rate in speeds.items() if rate)
        print(f"turn {turn}/{turns} {rates or 'warmed up'}", file=sys.stderr)
        if turn >= 3 and time.monotonic() - began > limit_s:
            break
    ratios = [one / other for one, other in zip(speeds["ours"], speeds["reference"], strict=True)]
    return {
        "ratio": round(statistics.median(ratios), 3),
        "ours_steps_per_s": round(statistics.median(speeds["ours"]), 3),
        "reference_steps_per_s": round(statistics.median(speeds["reference"]), 3),
        "turns": len(ratios),
        "loss_ratio": round(sum(losses["ours"][1:]) / sum(losses["reference"][1:]), 4),
    }


def resume(folder: Path) -> dict[str, Any]:
    """Of 12 steps, a checkpoint each 3; killed once step 7 of an epoch of 10 is done."""
    network = {"sample_size": 16, "patch_size": 2, "outer_dim": 16, "outer_depth": 1, "inner_dim": 32, "inner_depth": 1, "head_dim": 16}
    settings = {"max_steps": 12, "batch_size": 4, "threads": 1, "log_every": 1, "checkpoint_every": 3, "network": network}
    config = folder / "resume.yaml"
    config.write_text(yaml.safe_dump(settings))
    manifest = write_tiny_dataset(folder / "squares", {"train": 40, "validation": 4})

    def trainer(name: str, kill_at: int | None = None) -> dict[str, Any]:
        output = folder / name
        command = [sys.executable, "-u", "-m", "models.training.train_text_to_image", "--config", str(config)]
        command += ["--dataset", str(manifest), "--output", str(output)]
        with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout or ():
                print(line, end="", file=sys.stderr)
                if kill_at and line.startswith(f"step {kill_at}/"):
                    process.send_signal(signal.SIGKILL)
        found = Checkpoints(directory=output / "checkpoints").newest()
        if found is None:
            raise RuntimeError(f"{output} has no checkpoint")
        return {"status": process.returncode, "step": found.facts["step"], "tensors": found.tensors}

    whole, cut = trainer("whole"), trainer("cut", kill_at=7)
    if cut["status"] != -signal.SIGKILL or cut["step"] >= 12:
        raise RuntimeError("the run had ended before it could be killed")
    resumed = trainer("cut")
    same = all(torch.equal(value, resumed["tensors"][name]) for name, value in whole["tensors"].items())
    identical = same and whole["tensors"].keys() == resumed["tensors"].keys() and resumed["step"] == 12
    return {"resume_identical": identical, "resumed_at": cut["step"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=8, help="of each loop, besides one to warm up")
    parser.add_argument("--steps", type=int, default=2, help="in a turn")
    parser.add_argument("--limit-s", type=float, default=300.0, help="seconds after which no further turn begins")
    arguments = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder:
        found = race(*loops(Path(folder)), arguments.turns, arguments.steps, arguments.limit_s)
        found |= resume(Path(folder))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
