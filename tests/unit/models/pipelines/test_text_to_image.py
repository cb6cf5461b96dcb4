from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.pipelines.text_to_image import AtelierTextToImagePipeline, RenderState, load_pipeline, save_pipeline

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
