from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from models.pipelines.latent_state import Conditioning, LatentState, load_state
from models.schedulers.item_sampler import ItemSampler

CPU = torch.device("cpu")


def sampler(steps: int, width: int, height: int) -> ItemSampler:
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(steps)
    return ItemSampler(scheduler)


def state(count: int = 2, **changes: Any) -> LatentState:
    text = {"encoder_hidden_states": torch.randn(count, 3, 4)}
    latents = torch.randn(count, 4, 2, 2)
    content = {
        "family": "tiny",
        "width": 16,
        "height": 16,
        "asked_steps": 4,
        "sampler": sampler(4, 16, 16),
        "latents": latents,
        "denoised": latents / 2,
        "progress": tuple(range(count)),
        "conditioning": Conditioning(text, text, torch.full((count,), 3.0)),
        "memories": tuple({"counter": row, "history.0": torch.full((4,), float(row))} for row in range(count)),
    }
    return LatentState(**{**content, **changes})


def test_selected_and_joined_again_it_is_the_same() -> None:
    whole = state(3)
    again = whole.select([0, 2]).join(whole.select([1])).select([0, 2, 1])
    assert again.dump() == whole.dump()
    assert again.progress == whole.progress
    assert [memory["counter"] for memory in again.memories] == [0, 1, 2]


def test_restored_it_is_the_same() -> None:
    whole = state()
    restored = load_state(whole.dump(), "tiny", sampler, CPU)
    assert restored.dump() == whole.dump()
    assert (restored.steps, restored.progress, restored.unfinished()) == (4, (0, 1), [0, 1])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"progress": (0, 5)}, "progress .* of 4 steps"),
        ({"progress": (0,)}, "not all of 1 items"),
        ({"progress": ()}, "not all of 0 items"),
        ({"latents": torch.full((2, 4, 2, 2), float("nan"))}, "not finite"),
        ({"family": "other"}, "of a render of other; tiny is needed"),
        ({"asked_steps": "four"}, "not the state of a render"),
    ],
)
def test_what_no_render_came_to_is_refused(changes: dict[str, Any], words: str) -> None:
    data = replace(state(), **changes).dump()
    with pytest.raises(ValueError, match=words):
        load_state(data, "tiny", sampler, CPU)


def test_guided_and_unguided_items_do_not_join() -> None:
    guided, plain = (
        state(1, conditioning=Conditioning({"a": torch.ones(1, 2)}, negative, torch.ones(1))) for negative in ({"a": torch.ones(1, 2)}, {})
    )
    with pytest.raises(ValueError, match="join items of one kind"):
        guided.join(plain)
