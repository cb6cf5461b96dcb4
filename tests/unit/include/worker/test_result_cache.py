"""What was made before is given again: to the same tenant, for the same image, for a while."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from include.contracts.dispatch import AdapterRef, ModelRef, RenderTask
from include.contracts.events import ImageResult
from include.contracts.objects import image_key
from include.contracts.requests import ImageFormat, derived_seed
from include.storage import StoreUnavailable
from include.storage.directory import DirectoryStore
from include.worker.near import NearIndex
from include.worker.pipeline import Pipeline
from include.worker.ports import Found
from include.worker.prompt_cache import PromptCache
from include.worker.result_cache import PAUSE_S, StoredResults, fingerprint
from tests.support.leases import REF, render_task


class Shelf:
    """A cache over a directory, and images that were stored as a worker would."""

    def __init__(self, root: Path, pipeline: Pipeline) -> None:
        self.now = 1e6
        self.pipeline = pipeline
        self.store = DirectoryStore(root)
        self.cache = self.opened()

    def opened(self, **options: Any) -> StoredResults:
        near = NearIndex(PromptCache(lambda ref: None))
        return StoredResults(self.store, near, clock=lambda: self.now, **options)

    def stored(self, task: RenderTask, index: int = 0, **changes: Any) -> ImageResult:
        buffer = io.BytesIO()
        Image.new("RGB", (task.width, task.height), (task.seed % 256, index, 7)).save(buffer, "PNG")
        key = image_key(task.tenant, task.request_id, index, task.image_format)
        put = self.store.put_if_absent(key, buffer.getvalue(), "image/png")
        content = {"index": index, "key": key, "sha256": put.sha256, "size_bytes": put.size, "seed": task.seed + index}
        return ImageResult(**{**content, "width": task.width, "height": task.height, "media_type": "image/png", **changes})

    def make(self, task: RenderTask, **changes: Any) -> ImageResult:
        """Store an image of the task and remember it."""
        image = self.stored(task, **changes)
        self.cache.remember(task, image, REF, self.pipeline)
        self.cache.close()
        near = self.cache.near
        self.cache = self.opened()
        self.cache.near = near
        return image

    def find(self, task: RenderTask, index: int = 0, model: ModelRef = REF) -> Found | None:
        return self.cache.find(task, index, model, self.pipeline)


@pytest.fixture
def shelf(tmp_path: Path, pipeline: Pipeline) -> Shelf:
    return Shelf(tmp_path, pipeline)


def again(task: RenderTask, request_id: str = "again", **changes: Any) -> RenderTask:
    return task.model_copy(update={"request_id": request_id, **changes})


class TestExact:
    def test_the_same_image_is_copied_to_the_requests_own_key(self, shelf: Shelf) -> None:
        task = render_task()
        image = shelf.make(task)
        found = shelf.find(again(task))
        assert found is not None and (found.cache, found.degraded) == ("result", ())
        assert found.image.key == image_key("acme", "again", 0, ImageFormat.PNG)
        assert shelf.store.get(found.image.key) == shelf.store.get(image.key)
        assert found.image == image.model_copy(update={"key": found.image.key})

    def test_an_image_of_another_position_is_the_same_by_its_seed(self, shelf: Shelf) -> None:
        task = render_task(seed=50, images=2)
        shelf.make(task, index=1)
        found = shelf.find(again(task, seed=51, images=1))
        assert found is not None and (found.image.index, found.image.seed) == (0, 51)

    @pytest.mark.parametrize(
        "change",
        [
            {"prompt": "blue"},
            {"negative_prompt": "x"},
            {"seed": 8},
            {"steps": 5},
            {"guidance": 2.5},
            {"width": 24},
            {"upscale_to": (32, 32)},
            {"degraded": ("4 of 8 steps",)},
            {"image_format": ImageFormat.WEBP},
            {"tenant": "globex"},
            {"adapters": (AdapterRef(model=REF, weight=0.5),)},
            {"strength": 0.5, "init_image": "inputs/acme/a.png"},
        ],
    )
    def test_whatever_changes_the_bytes_or_whose_they_are_is_a_miss(self, shelf: Shelf, change: dict[str, Any]) -> None:
        task = render_task(seed=7)
        shelf.make(task)
        assert shelf.find(again(task)) is not None
        assert shelf.find(again(task, "other", **change)) is None

    @pytest.mark.parametrize("change", [{"digest": "1" * 64}, {"version": "2"}])
    def test_so_is_another_model(self, shelf: Shelf, change: dict[str, str]) -> None:
        task = render_task()
        shelf.make(task)
        assert shelf.find(again(task), model=REF.model_copy(update=change)) is None

    def test_so_are_another_backend_another_checker_and_another_image_to_start_from(self) -> None:
        task = render_task(strength=0.5, init_image="inputs/acme/a.png")
        marks = [("eager", "off", "a"), ("compiled", "off", "a"), ("eager", "block", "a"), ("eager", "off", "b")]
        assert len({fingerprint(task, 0, REF, *mark) for mark in marks}) == len(marks)

    def test_a_seed_that_no_other_request_can_have_is_not_kept(self, shelf: Shelf) -> None:
        task = render_task("mine", seed=derived_seed("mine"))
        shelf.make(task)
        assert list(shelf.store.list("results")) == []

    def test_an_entry_counts_for_a_while_and_is_renewed(self, shelf: Shelf) -> None:
        task = render_task()
        shelf.make(task)
        shelf.now += 25 * 3600
        assert shelf.find(again(task)) is None
        shelf.make(again(task, "renewed"))
        assert shelf.find(again(task, "third")) is not None

    @pytest.mark.parametrize(
        "harm", [lambda shelf, key: shelf.store.delete(key), lambda shelf, key: shelf.store.put(key, b"x", "image/png")]
    )
    def test_an_image_that_is_gone_or_changed_is_a_miss(self, shelf: Shelf, harm: Callable[[Shelf, str], None]) -> None:
        task = render_task()
        harm(shelf, shelf.make(task).key)
        assert shelf.find(again(task)) is None
        assert shelf.store.head(image_key("acme", "again", 0, ImageFormat.PNG)) is None, "its own render is stored there"

    def test_an_entry_that_names_another_tenants_image_is_a_miss(self, shelf: Shelf) -> None:
        task = render_task()
        theirs = shelf.stored(again(task, "theirs", tenant="globex"))
        shelf.make(task, key=theirs.key, sha256=theirs.sha256)
        assert shelf.find(again(task)) is None

    def test_an_entry_that_is_none_is_a_miss(self, shelf: Shelf) -> None:
        task = render_task()
        shelf.make(task)
        (key,) = shelf.store.list("results")
        shelf.store.put(key, b"{}", "application/json")
        assert shelf.find(again(task)) is None

    def test_what_an_earlier_attempt_stored_stays(self, shelf: Shelf) -> None:
        task = render_task()
        shelf.make(task)
        shelf.store.put_if_absent(image_key("acme", "again", 0, ImageFormat.PNG), b"mine", "image/png")
        assert shelf.find(again(task)) is None

    def test_flags_are_told_again(self, shelf: Shelf) -> None:
        task = render_task()
        shelf.make(task, flags=("nsfw",))
        found = shelf.find(again(task))
        assert found is not None and found.image.flags == ("nsfw",)

    def test_a_store_that_is_away_costs_one_try_in_a_while(self, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[str] = []

        def away(key: str) -> None:
            calls.append(key)
            raise StoreUnavailable("away")

        task = render_task()
        shelf.make(task)
        with monkeypatch.context() as patch:
            patch.setattr(shelf.store, "get", away)
            assert shelf.find(again(task)) is None and shelf.find(again(task)) is None
            assert len(calls) == 1
        shelf.now += PAUSE_S + 1
        assert shelf.find(again(task)) is not None


class TestNear:
    def test_only_who_takes_it_gets_it_and_is_told(self, shelf: Shelf) -> None:
        image = shelf.make(render_task("first", seed=derived_seed("first")))
        asked = render_task("second", seed=derived_seed("second"), steps=9)
        assert shelf.find(asked) is None
        found = shelf.find(again(asked, near=0.99))
        assert found is not None and found.cache == "near"
        assert found.degraded == ("an image made before in place of its own: its prompt's similarity is 1.00",)
        assert (found.image.seed, found.image.sha256) == (image.seed, image.sha256)

    @pytest.mark.parametrize(
        "change", [{"tenant": "globex"}, {"width": 24}, {"negative_prompt": "x"}, {"prompt": "an entirely different thing"}]
    )
    def test_what_is_not_near_is_rendered(self, shelf: Shelf, change: dict[str, Any]) -> None:
        shelf.make(render_task("first", seed=1))
        assert shelf.find(render_task("second", seed=9, near=0.999, **change)) is None

    @pytest.mark.parametrize("change", [{"flags": ("nsfw",)}, {"index": 1}])
    def test_what_was_flagged_or_is_one_of_several_is_not_given_to_others(self, shelf: Shelf, change: dict[str, Any]) -> None:
        shelf.make(render_task("first", images=2, seed=1), **change)
        assert shelf.find(render_task("second", seed=9, near=0.5)) is None

    def test_the_most_alike_is_chosen(self, pipeline: Pipeline, shelf: Shelf) -> None:
        vectors = {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([0.8, 0.6]), "asked": torch.tensor([0.9, 0.436])}

        class Known:
            def vector(self, pipeline: Pipeline, model: ModelRef, prompt: str) -> torch.Tensor:
                return vectors[prompt]

        index = NearIndex(Known())
        images = {name: shelf.stored(render_task(name, prompt=name)) for name in ("a", "b")}
        for name, image in images.items():
            index.remember(render_task(name, prompt=name), image, REF, pipeline)
        match = index.find(render_task(prompt="asked", near=0.9), REF, pipeline)
        assert match is not None and match.image == images["b"] and match.similarity == pytest.approx(0.98, abs=0.01)
