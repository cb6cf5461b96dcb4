from __future__ import annotations

import io

import pytest
from PIL import Image

from include.contracts.requests import ImageFormat
from include.worker.encoding import encode_image, parameters_of, read_parameters
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
