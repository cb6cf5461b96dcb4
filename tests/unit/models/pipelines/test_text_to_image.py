from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.pipelines.render_state import RenderState
from models.pipelines.text_encoder import TextEmbeddings
from models.pipelines.text_to_image import AtelierTextToImagePipeline, load_pipeline, save_pipeline

PROMPTS = ["red heart", "a yellow cat face that is longer", "pizza"]


def render(
    pipeline: AtelierTextToImagePipeline, prompts: list[str], seeds: list[int], guidance: list[float], steps: int = 4
) -> RenderState:
    state = pipeline.prepare(pipeline.encode(prompts, "", guidance), seeds, steps=steps)
    while not state.done:
        state = pipeline.step(state)
    return state


def test_a_batch_gives_what_single_runs_give(pipeline: AtelierTextToImagePipeline) -> None:
    scales = [3.0, 1.0, 5.0]
    batch = render(pipeline, PROMPTS, [1, 2, 3], scales)
    for index, prompt in enumerate(PROMPTS):
        single = render(pipeline, [prompt], [index + 1], [scales[index]])
        assert torch.allclose(batch.latents[index], single.latents[0], atol=1e-4)
    images = [np.asarray(image, int) for image in pipeline.decode(batch)]
    assert np.abs(images[0] - np.asarray(pipeline.decode(render(pipeline, PROMPTS[:1], [1], [3.0]))[0], int)).max() <= 1


def test_prompt_seed_and_guidance_each_change_the_image(pipeline: AtelierTextToImagePipeline) -> None:
    first = render(pipeline, ["pizza"], [1], [3.0]).latents
    for prompts, seeds, guidance in ([["rocket"], [1], [3.0]], [["pizza"], [2], [3.0]], [["pizza"], [1], [6.0]]):
        assert not torch.allclose(render(pipeline, prompts, seeds, guidance).latents, first, atol=1e-3)


def test_the_call_is_the_steps(pipeline: AtelierTextToImagePipeline) -> None:
    called = pipeline(["pizza"], num_inference_steps=4, guidance_scale=3.0, seed=7).images[0]
    stepped = pipeline.decode(render(pipeline, ["pizza"], [7], [3.0]))[0]
    assert called.tobytes() == stepped.tobytes()
    assert called.size == (16, 16)


def test_a_state_can_be_copied_in_the_middle_and_go_on(pipeline: AtelierTextToImagePipeline) -> None:
    state = pipeline.step(pipeline.prepare(pipeline.encode(["pizza"]), [7], steps=3))
    copy = replace(state, latents=state.latents.clone())
    while not state.done:
        state, copy = pipeline.step(state), pipeline.step(copy)
    assert torch.equal(state.latents, copy.latents)


def test_the_rest_of_a_batch_goes_on_without_a_cancelled_item(pipeline: AtelierTextToImagePipeline) -> None:
    whole = render(pipeline, PROMPTS, [1, 2, 3], [3.0, 3.0, 3.0], steps=3)
    state = pipeline.step(pipeline.prepare(pipeline.encode(PROMPTS, "", 3.0), [1, 2, 3], steps=3)).select([0, 2])
    while not state.done:
        state = pipeline.step(state)
    assert torch.allclose(state.latents, whole.latents[[0, 2]], atol=1e-4)
    assert len(pipeline.decode(state)) == 2


def test_preview_of_the_last_step_is_the_image(pipeline: AtelierTextToImagePipeline) -> None:
    state = render(pipeline, ["pizza"], [7], [3.0])
    assert np.abs(np.asarray(pipeline.preview(state)[0], int) - np.asarray(pipeline.decode(state)[0], int)).max() <= 1
    assert pipeline.preview(pipeline.prepare(pipeline.encode(["pizza"]), [7]))[0].size == (16, 16)


def test_another_size_is_rendered(pipeline: AtelierTextToImagePipeline) -> None:
    state = pipeline.step(pipeline.prepare(pipeline.encode(["pizza"]), [7], width=24, height=8, steps=1))
    assert pipeline.decode(state)[0].size == (24, 8)


def test_what_does_not_fit_together_is_refused(pipeline: AtelierTextToImagePipeline) -> None:
    conditioning = pipeline.encode(["pizza"])
    with pytest.raises(ValueError, match="seeds"):
        pipeline.prepare(conditioning, [1, 2])
    with pytest.raises(ValueError, match="width 10"):
        pipeline.prepare(conditioning, [1], width=10, height=16)
    with pytest.raises(ValueError, match="as many"):
        pipeline.encode(["pizza", "cat"], "", [1.0])
    with pytest.raises(ValueError, match="are done"):
        pipeline.step(render(pipeline, ["pizza"], [1], [1.0], steps=1))


def test_a_saved_pipeline_renders_the_same(pipeline: AtelierTextToImagePipeline, tmp_path: Path) -> None:
    loaded = load_pipeline(save_pipeline(pipeline, tmp_path))
    assert torch.equal(render(loaded, PROMPTS, [1, 2, 3], [3.0] * 3).latents, render(pipeline, PROMPTS, [1, 2, 3], [3.0] * 3).latents)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".json", ".safetensors"}


@pytest.fixture
def saved(pipeline: AtelierTextToImagePipeline, tmp_path: Path) -> Path:
    return save_pipeline(pipeline, tmp_path)


@pytest.mark.parametrize(
    ("component", "entry"),
    [("network", ["custom", "Evil"]), ("scheduler", ["diffusers", "DDIMScheduler"]), ("text_encoder", None), ("_class_name", "Other")],
)
def test_a_directory_that_names_another_class_is_refused(saved: Path, component: str, entry: object) -> None:
    index = json.loads((saved / "model_index.json").read_text())
    (saved / "model_index.json").write_text(json.dumps({**index, component: entry}))
    with pytest.raises(ValueError, match=r"model_index.json names"):
        load_pipeline(saved)


@pytest.mark.parametrize("name", ["pipeline.py", "network/pytorch_model.bin", "weights.ckpt"])
def test_a_directory_with_code_or_pickles_is_refused(saved: Path, name: str) -> None:
    (saved / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=Path(name).name):
        load_pipeline(saved)


def test_a_directory_without_a_pipeline_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model_index.json"):
        load_pipeline(tmp_path)


def before(pipeline: AtelierTextToImagePipeline, state: RenderState) -> torch.Tensor:
    """The latents after one more step of all items, with one noise level for them all as Python numbers."""
    sigma, following = state.sigmas[state.progress[0]].item(), state.sigmas[state.progress[0] + 1].item()
    texts = TextEmbeddings.join([state.conditioning.positive, state.conditioning.negative])
    timestep = torch.full((2 * len(state.latents),), 1000 * sigma)
    velocity = pipeline.network(torch.cat([state.latents] * 2), timestep, texts.tokens, texts.mask, texts.pooled)
    positive, negative = velocity.chunk(2)
    scale = state.conditioning.guidance[:, None, None, None]
    return state.latents + (following - sigma) * torch.where(scale > 1, negative + scale * (positive - negative), positive)


@torch.no_grad()
def test_a_noise_level_for_each_item_gives_the_bits_of_one_for_all(pipeline: AtelierTextToImagePipeline) -> None:
    state = pipeline.prepare(pipeline.encode(PROMPTS, "", [3.0, 1.0, 5.0]), [1, 2, 3], steps=7)
    while not state.done:
        wanted = before(pipeline, state)
        state = pipeline.step(state)
        assert torch.equal(state.latents, wanted)


def test_items_may_join_in_the_middle_and_end_on_their_own(pipeline: AtelierTextToImagePipeline) -> None:
    ahead = pipeline.prepare(pipeline.encode(PROMPTS[:2], "", 3.0), [1, 2], steps=4)
    ahead = pipeline.step(pipeline.step(ahead))
    state = ahead.join(pipeline.prepare(pipeline.encode(PROMPTS[2:], "", 3.0), [3], steps=4))
    seen = [state.progress]
    while not state.done:
        state = pipeline.step(state)
        seen.append(state.progress)
    assert seen == [(2, 2, 0), (3, 3, 1), (4, 4, 2), (4, 4, 3), (4, 4, 4)]
    for index, prompt in enumerate(PROMPTS):
        single = render(pipeline, [prompt], [index + 1], [3.0])
        assert torch.allclose(state.latents[index], single.latents[0], atol=1e-4)
        assert torch.allclose(state.denoised[index], single.denoised[0], atol=1e-4)


def test_what_is_of_another_size_or_number_of_steps_can_not_join(pipeline: AtelierTextToImagePipeline) -> None:
    state = pipeline.prepare(pipeline.encode(["pizza"]), [1], steps=4)
    for other in ({"steps": 5}, {"steps": 4, "width": 24}):
        with pytest.raises(ValueError, match="can't join"):
            state.join(pipeline.prepare(pipeline.encode(["cat"]), [1], **other))


def test_a_stored_state_goes_on_to_the_same_bits(pipeline: AtelierTextToImagePipeline) -> None:
    state = pipeline.prepare(pipeline.encode(PROMPTS, "blue", [3.0, 1.0, 5.0]), [1, 2, 3], steps=4)
    state = pipeline.step(pipeline.step(state))
    restored = pipeline.restore(state.dump())
    assert restored.progress == (2, 2, 2) and restored.steps == 4
    assert torch.equal(restored.denoised, state.denoised)
    while not state.done:
        state, restored = pipeline.step(state), pipeline.step(restored)
    assert torch.equal(state.latents, restored.latents)


def test_what_is_no_stored_state_is_refused(pipeline: AtelierTextToImagePipeline) -> None:
    state = pipeline.step(pipeline.prepare(pipeline.encode(["pizza"]), [1], steps=4))
    broken = replace(state, latents=torch.full_like(state.latents, float("nan")))
    beyond, uneven = replace(state, progress=(5,)), replace(state, progress=(1, 1))
    for data in (b"", b"junk", state.dump()[:-10], broken.dump(), beyond.dump(), uneven.dump()):
        with pytest.raises(ValueError, match=r"state|stored render"):
            pipeline.restore(data)


class TestImageToImage:
    @dataclass(frozen=True)
    class From:
        images: list[Image.Image]
        strength: float

    def test_it_runs_the_last_steps_and_stays_near_the_image(self, pipeline: AtelierTextToImagePipeline) -> None:
        image = Image.new("RGB", (16, 16), (200, 40, 40))
        conditioning = pipeline.encode(["pizza"], "", 1.0)
        changed = []
        for strength in (0.1, 0.5, 1.0):
            state = pipeline.prepare(conditioning, [7], steps=10, start=self.From([image], strength))
            assert state.progress == (10 - round(10 * strength),)
            while not state.done:
                state = pipeline.step(state)
            changed.append(np.abs(np.asarray(pipeline.decode(state)[0], int) - np.asarray(image, int)).mean())
        assert changed[0] < changed[1] < changed[2]

    def test_full_strength_forgets_the_image(self, pipeline: AtelierTextToImagePipeline) -> None:
        conditioning = pipeline.encode(["pizza"], "", 1.0)
        started = pipeline.prepare(conditioning, [7], steps=4, start=self.From([Image.new("RGB", (16, 16), "red")], 1.0))
        assert torch.equal(started.latents, pipeline.prepare(conditioning, [7], steps=4).latents)

    def test_an_image_of_another_size_or_number_is_refused(self, pipeline: AtelierTextToImagePipeline) -> None:
        conditioning = pipeline.encode(["pizza"])
        with pytest.raises(ValueError, match="8x8; it must be 16x16"):
            pipeline.prepare(conditioning, [7], start=self.From([Image.new("RGB", (8, 8))], 0.5))
        with pytest.raises(ValueError, match="2 images"):
            pipeline.prepare(conditioning, [7], start=self.From([Image.new("RGB", (16, 16))] * 2, 0.5))
