from __future__ import annotations

import io

import pytest
from PIL import Image

from include.contracts.dispatch import AdapterRef
from include.contracts.requests import ImageFormat
from include.worker.encoding import encode_image, parameters_of, read_parameters, scaled_up
from include.worker.render import Item
from tests.support.leases import REF, render_task

PROMPT = 'a "red" heart — émoji ❤, {braces}\nand a second line'


@pytest.mark.parametrize("image_format", list(ImageFormat))
def test_every_format_carries_the_parameters(image_format: ImageFormat) -> None:
    item = Item(render_task(prompt=PROMPT, seed=7, image_format=image_format), index=2)
    parameters = parameters_of(item, REF)
    image = Image.effect_noise((32, 16), 50).convert("RGB")
    data = encode_image(image, image_format, parameters)
    found = Image.open(io.BytesIO(data))
    assert (found.format, found.size) == (image_format.name, (32, 16))
    assert read_parameters(data) == parameters
    assert parameters["prompt"] == PROMPT and parameters["seed"] == 9
    assert data == encode_image(image, image_format, parameters)


def test_png_keeps_every_pixel() -> None:
    image = Image.effect_noise((16, 16), 80).convert("RGB")
    data = encode_image(image, ImageFormat.PNG, {"prompt": "x"})
    assert Image.open(io.BytesIO(data)).tobytes() == image.tobytes()


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "WEBP"])
def test_a_foreign_image_has_no_parameters(format_name: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, format_name)
    assert read_parameters(buffer.getvalue()) is None


@pytest.mark.parametrize("image_format", list(ImageFormat))
def test_a_degraded_image_is_scaled_up_and_says_so(image_format: ImageFormat) -> None:
    words = ("4 of 8 steps", "16x16 scaled up to 32x32")
    task = render_task(width=16, height=16, upscale_to=(32, 32), degraded=words, image_format=image_format)
    image = scaled_up(Image.effect_noise((16, 16), 50).convert("RGB"), task)
    parameters = read_parameters(encode_image(image, image_format, parameters_of(Item(task, 0), REF)))
    assert image.size == (32, 32) and parameters is not None
    assert (parameters["width"], parameters["height"], parameters["upscaled_to"]) == (16, 16, [32, 32])
    assert parameters["degraded"] == list(words)


def test_an_image_that_renders_as_asked_is_left_alone() -> None:
    image = Image.effect_noise((16, 16), 50)
    assert scaled_up(image, render_task()) is image
    assert "upscaled_to" not in parameters_of(Item(render_task(), 0), REF)


def test_adapters_and_the_image_it_started_from_are_among_the_parameters() -> None:
    task = render_task(adapters=(AdapterRef(model=REF, weight=0.5),), init_image="inputs/acme/a.png", strength=0.4)
    parameters = parameters_of(Item(task, 0), REF)
    assert parameters["adapters"] == [{"name": REF.name, "version": REF.version, "digest": REF.digest, "weight": 0.5}]
    assert (parameters["init_image"], parameters["strength"]) == ("inputs/acme/a.png", 0.4)
    assert not {"adapters", "init_image", "strength"} & parameters_of(Item(render_task(), 0), REF).keys()
