from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.networks.hourglass_transformer import HourglassTransformer2DModel, _from_merged, _to_image, _to_merged, _to_tokens


def inputs(batch: int = 2, height: int = 16, width: int = 16) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(batch, 3, height, width, generator=generator)
    timestep = torch.linspace(100, 900, batch)
    text = torch.randn(batch, 16, 384, generator=generator)
    return sample, timestep, text, torch.arange(16).expand(batch, 16) < 5, torch.randn(batch, 384, generator=generator)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (8, 24), (32, 32)])
def test_velocity_has_the_shape_of_the_sample(network: HourglassTransformer2DModel, height: int, width: int) -> None:
    sample, *rest = inputs(height=height, width=width)
    velocity = network(sample, *rest)
    assert velocity.shape == sample.shape
    assert velocity.isfinite().all()


def test_what_the_mask_hides_does_not_matter(network: HourglassTransformer2DModel) -> None:
    sample, timestep, text, mask, pooled = inputs()
    other = text.clone()
    other[:, 5:] = 7
    assert torch.equal(network(sample, timestep, text, mask, pooled), network(sample, timestep, other, mask, pooled))
    other[:, 4] = 7
    assert not torch.equal(network(sample, timestep, text, mask, pooled), network(sample, timestep, other, mask, pooled))


def test_every_weight_gets_a_gradient(network: HourglassTransformer2DModel) -> None:
    network(*inputs()).square().mean().backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def test_small_noise_levels_keep_the_velocity_bounded(network: HourglassTransformer2DModel) -> None:
    sample, _, *rest = inputs()
    smallest = 1000 * network.config.min_sigma
    at_zero, at_smallest = (network(sample, torch.full((2,), timestep), *rest) for timestep in (0.0, smallest))
    assert at_zero.abs().max() < 3 * at_smallest.abs().max()


def test_saved_and_loaded_it_is_the_same(network: HourglassTransformer2DModel, tmp_path: Path) -> None:
    network.save_pretrained(str(tmp_path))
    loaded = HourglassTransformer2DModel.from_pretrained(str(tmp_path), local_files_only=True, use_safetensors=True)
    assert torch.equal(network(*inputs()), loaded(*inputs()))


def test_tokens_and_merged_tokens_lead_back_to_the_image() -> None:
    image = torch.arange(2 * 3 * 8 * 16, dtype=torch.float32).view(2, 3, 8, 16)
    tokens = _to_tokens(image, 2)
    assert torch.equal(_to_image(tokens, 4, 8, 2), image)
    assert torch.equal(_from_merged(_to_merged(tokens, 4, 8), 4, 8), tokens)


@pytest.mark.parametrize(("wrong", "named"), [({"sample_size": 60}, "sample_size"), ({"inner_dim": 100}, "inner_dim")])
def test_dimensions_that_do_not_fit_are_refused(wrong: dict[str, int], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        HourglassTransformer2DModel(**wrong)
