"""Each family of the real diffusers classes, with random weights, through the loader that a worker uses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import (
    FluxImg2ImgPipeline,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionXLImg2ImgPipeline,
)

from include.worker.memory import memory_bytes
from include.worker.pipeline import Start, load_torch
from models.pipelines.adapters import AdaptablePipeline
from tests.support.device import DEVICE
from tests.support.tiny_diffusers import FAMILIES, SIDE, write_tiny_diffusers
from tests.unit.models.pipelines.diffusers_renders import (
    GUIDANCE,
    PROMPTS,
    STEPS,
    begin,
    close,
    finish,
    gradient,
    pixels_apart,
    reference,
)

#: How diffusers makes numpy arrays of tensors for some schedulers, numpy deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

IMAGE_TO_IMAGE = {
    "StableDiffusionPipeline": StableDiffusionImg2ImgPipeline,
    "StableDiffusionXLPipeline": StableDiffusionXLImg2ImgPipeline,
    "StableDiffusion3Pipeline": StableDiffusion3Img2ImgPipeline,
    "FluxPipeline": FluxImg2ImgPipeline,
}


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def pipeline(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AdaptablePipeline:
    loaded = load_torch(write_tiny_diffusers(request.param, tmp_path_factory.mktemp("model") / request.param), DEVICE)
    assert isinstance(loaded, AdaptablePipeline)
    return loaded


def test_the_loop_gives_what_the_call_of_diffusers_gives(pipeline: AdaptablePipeline) -> None:
    state = finish(pipeline, begin(pipeline))
    images = pipeline.decode(state)
    for item in range(len(PROMPTS)):
        assert close(state.latents[item], reference(pipeline, item)[0])
        assert pixels_apart(images[item], reference(pipeline, item, output_type="pil")[0]) <= 1


def test_without_guidance_too(pipeline: AdaptablePipeline) -> None:
    state = finish(pipeline, begin(pipeline, [0, 2], guidance=[1.0, 1.0, 1.0]))
    assert close(state.latents[1], reference(pipeline, 2, guidance=[1.0, 1.0, 1.0])[0])


def test_a_batch_gives_what_single_renders_give(pipeline: AdaptablePipeline) -> None:
    batch = finish(pipeline, begin(pipeline))
    for item in range(len(PROMPTS)):
        assert close(batch.latents[item], finish(pipeline, begin(pipeline, [item])).latents[0])


def test_prompt_seed_and_guidance_each_change_the_image(pipeline: AdaptablePipeline) -> None:
    def latents(prompt: str, seed: int, guidance: float) -> torch.Tensor:
        return finish(pipeline, pipeline.prepare(pipeline.encode([prompt], [""], [guidance]), [seed], SIDE, SIDE, 2)).latents

    first = latents("red cat", 1, 4.0)
    for prompt, seed, guidance in (("blue dog", 1, 4.0), ("red cat", 2, 4.0), ("red cat", 1, 7.0)):
        assert not torch.allclose(latents(prompt, seed, guidance), first, atol=1e-4)


def test_items_that_leave_in_the_middle_take_nothing_with_them(pipeline: AdaptablePipeline) -> None:
    whole = finish(pipeline, begin(pipeline))
    rest = finish(pipeline, pipeline.step(begin(pipeline)).select([0, 2]))
    assert close(rest.latents, whole.latents[[0, 2]])
    assert len(pipeline.decode(rest)) == 2


def test_an_item_that_joins_in_the_middle_gives_what_it_gives_alone(pipeline: AdaptablePipeline) -> None:
    running = pipeline.step(begin(pipeline, [0, 1])).join(begin(pipeline, [2]))
    assert running.progress == (1, 1, 0)
    ended = finish(pipeline, running)
    assert ended.progress == (ended.steps,) * 3
    assert close(ended.latents, finish(pipeline, begin(pipeline)).latents)


def test_a_stored_render_goes_on_bit_for_bit(pipeline: AdaptablePipeline) -> None:
    state = pipeline.step(begin(pipeline, [0, 1])).join(begin(pipeline, [2]))
    restored = pipeline.restore(state.dump())
    assert restored.progress == state.progress
    assert restored.dump() == state.dump()
    assert torch.equal(finish(pipeline, restored).latents, finish(pipeline, state).latents)


def test_a_step_leaves_the_state_that_it_was_given(pipeline: AdaptablePipeline) -> None:
    state = begin(pipeline)
    before = state.dump()
    finish(pipeline, state)
    assert state.dump() == before


@pytest.mark.parametrize("strength", [1 / 3, 1.0])
def test_image_to_image_gives_what_diffusers_gives(pipeline: AdaptablePipeline, strength: float) -> None:
    starts = [gradient(0), gradient(40), gradient(80)]
    state = begin(pipeline, start=Start(starts, strength))
    assert state.progress == (STEPS - round(STEPS * strength),) * 3
    ended = finish(pipeline, state)
    pipe = IMAGE_TO_IMAGE[pipeline.pipeline.family](**pipeline.components)
    for item in range(len(PROMPTS)):
        size = {"height": SIDE, "width": SIDE} if pipeline.pipeline.family in ("StableDiffusion3Pipeline", "FluxPipeline") else {}
        assert close(ended.latents[item], reference(pipeline, item, pipe=pipe, image=starts[item], strength=strength, **size)[0])


def test_a_start_image_shows_in_the_image(pipeline: AdaptablePipeline) -> None:
    one, other = (finish(pipeline, begin(pipeline, [0], start=Start([gradient(shift)], 0.5))).latents for shift in (0, 100))
    assert not torch.allclose(one, other, atol=1e-3)


def test_previews_are_small_and_of_every_item(pipeline: AdaptablePipeline) -> None:
    state = pipeline.step(begin(pipeline))
    assert [image.size for image in pipeline.preview(state)] == [(SIDE // 2, SIDE // 2)] * 3
    assert [image.size for image in pipeline.decode(state)] == [(SIDE, SIDE)] * 3


def test_what_does_not_fit_together_is_refused(pipeline: AdaptablePipeline) -> None:
    conditioning = pipeline.encode(["cat"], [""], [4.0])
    with pytest.raises(ValueError, match="2 seeds for 1 items"):
        pipeline.prepare(conditioning, [1, 2], SIDE, SIDE, 2)
    with pytest.raises(ValueError, match="width 17"):
        pipeline.prepare(conditioning, [1], 17, SIDE, 2)
    with pytest.raises(ValueError, match="is not 16x16"):
        pipeline.prepare(conditioning, [1], SIDE, SIDE, 2, Start([gradient().resize((8, 8))], 0.5))
    with pytest.raises(ValueError, match="give as many"):
        pipeline.encode(["cat"], [], [4.0])
    with pytest.raises(ValueError, match="are done"):
        pipeline.step(finish(pipeline, begin(pipeline, steps=1)))
    with pytest.raises(ValueError, match="different asked_steps can't join"):
        begin(pipeline, [0], steps=2).join(begin(pipeline, [1], steps=3))
    with pytest.raises(ValueError, match="not the state of a render"):
        pipeline.restore(b"something else")


def test_its_weights_are_counted(pipeline: AdaptablePipeline) -> None:
    modules = [module for module in pipeline.components.values() if isinstance(module, torch.nn.Module)]
    weights = [weight for module in modules for weight in (*module.parameters(), *module.buffers())]
    assert memory_bytes(pipeline) == sum(weight.numel() * weight.element_size() for weight in weights)


def test_a_state_of_another_family_is_refused(tmp_path: Path) -> None:
    one, other = (load_torch(write_tiny_diffusers(family, tmp_path / family), DEVICE) for family in ("stable-diffusion", "flux"))
    assert isinstance(one, AdaptablePipeline)
    with pytest.raises(ValueError, match="StableDiffusionPipeline; FluxPipeline is needed"):
        other.restore(begin(one).dump())
    with pytest.raises(ValueError, match="negative_prompt: a Flux model takes none"):
        other.encode(["cat"], ["dog"], [4.0])


def test_a_mixed_batch_guides_only_those_who_asked(pipeline: AdaptablePipeline) -> None:
    mixed = finish(pipeline, begin(pipeline, guidance=[1.0, 3.0, 1.0]))
    assert close(mixed.latents[1], finish(pipeline, begin(pipeline, [1], guidance=GUIDANCE)).latents[0])
    assert close(mixed.latents[2], finish(pipeline, begin(pipeline, [2], guidance=[1.0] * 3)).latents[0])
