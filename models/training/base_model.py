"""The shipped base checkpoint: where it is, how it is loaded, how it is exported from a training run.

    python -m models.training.base_model export --run .atelier/training/base

reads the averaged weights of the run's newest checkpoint, also while the run goes on, and writes ``models/base``: the network in bf16,
``training.json`` with configuration, data digest, metrics and the digest of each file, and a sample grid. The text encoder is not part
of it: that comes from the installed package.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from models.networks.hourglass_transformer import HourglassTransformer2DModel
from models.pipelines.text_encoder import load_text_encoder
from models.pipelines.text_to_image import DEFAULT_STEPS, AtelierTextToImagePipeline, assemble
from models.training.checkpoints import Checkpoints
from models.training.config import TrainingConfig, load_config
from models.training.data import load_encoded
from models.training.grid import image_grid
from models.training.held_out import held_out_loss
from models.training.provenance import RECORD, write_training_record
from models.training.run import CHECKPOINTS
from models.training.state import TrainingState

BASE = Path(__file__).resolve().parent.parent / "base"
BASE_CONFIG = Path(__file__).resolve().parent.parent / "configs" / "base.yaml"
MAX_BYTES = 16_000_000  #: it lives in the repository


def load_base(directory: Path = BASE) -> AtelierTextToImagePipeline:
    """The base checkpoint as a whole pipeline, with the packaged text encoder."""
    return assemble(load_base_network(directory))


def load_base_network(directory: Path = BASE) -> HourglassTransformer2DModel:
    """The network in fp32. Raises :class:`ValueError` for a file whose digest is not the record's."""
    record = json.loads((directory / RECORD).read_text(encoding="utf-8"))
    for name, digest in record["files"].items():
        if _digest(directory / name) != digest:
            raise ValueError(f"{directory / name} is not the file that was exported: its digest differs; `make base-model` makes it anew")
    return HourglassTransformer2DModel.from_pretrained(
        str(directory / "network"), use_safetensors=True, local_files_only=True, torch_dtype=torch.float32
    )


def export(run: Path, dataset: Path, target: Path = BASE, config_path: Path = BASE_CONFIG) -> dict[str, Any]:
    """Publishes the run's newest checkpoint as the base model. Raises :class:`FileNotFoundError` for a run without one."""
    config = load_config(config_path)
    found = Checkpoints(directory=run / CHECKPOINTS).newest()
    if found is None:
        raise FileNotFoundError(f"run: {run} has no checkpoint yet")
    state = TrainingState(HourglassTransformer2DModel(**config.network), config)
    state.take(found.tensors, found.facts["step"], found.facts["micro_batch"])
    network = HourglassTransformer2DModel(**config.network)
    network.load_state_dict(state.averaged.state_dict())
    torch.nn.Module.to(network, torch.bfloat16)
    network.save_pretrained(str(target / "network"), safe_serialization=True)
    files = {path.relative_to(target).as_posix(): _digest(path) for path in sorted((target / "network").iterdir())}
    size = sum((target / name).stat().st_size for name in files)
    if size > MAX_BYTES:
        raise ValueError(f"network: the files have {size} bytes; at most {MAX_BYTES} are shipped")
    metrics, digest = _measure(state, config, dataset, target / "samples.png")
    side = network.config.sample_size
    facts = {
        "steps": state.step,
        "samples_seen": state.step * config.batch_size,
        "seed": config.seed,
        "defaults": {"width": side, "height": side, "steps": DEFAULT_STEPS, "guidance": config.guidance},
        "config": config.model_dump(mode="json"),
        "dataset_digest": digest,
        "init": "",
        "metrics": metrics,
        "files": files,
        "size_bytes": size,
    }
    write_training_record(target, facts)
    return {"steps": state.step, "size_bytes": size, **metrics}


def _measure(state: TrainingState, config: TrainingConfig, dataset: Path, grid: Path) -> tuple[dict[str, float], str]:
    encoder, tokenizer = load_text_encoder()
    data = load_encoded(dataset, "validation", config, encoder, tokenizer, state.averaged.config.text_length, config.validation_samples)
    loss = held_out_loss(state.averaged.eval(), data.images, data.text)
    pipeline = assemble(state.averaged, encoder, tokenizer)
    image_grid(pipeline(config.sample_prompts, num_inference_steps=config.sample_steps, guidance_scale=config.guidance).images).save(grid)
    return {"held_out_loss": loss}, data.digest


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m models.training.base_model", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("export", help="publish a run's newest checkpoint as models/base")
    command.add_argument("--run", type=Path, required=True, help="output directory of the training")
    command.add_argument("--dataset", type=Path, required=True, help="manifest.json that it trained on")
    command.add_argument("--target", type=Path, default=BASE)
    options = parser.parse_args()
    print(json.dumps(export(options.run, options.dataset, options.target)))


if __name__ == "__main__":
    main()
