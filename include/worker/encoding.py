"""Image files that carry the parameters which made them. Equal images and parameters give equal bytes."""

from __future__ import annotations

import io
import json
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from include.contracts.dispatch import AdapterRef, ModelRef, RenderTask
from include.contracts.requests import ImageFormat
from include.worker.render import Item

SOFTWARE = "Atelier"
KEYWORD = "parameters"  #: of the PNG text chunk
QUALITY = 92
_EXIF_IFD, _SOFTWARE, _USER_COMMENT = 0x8769, 0x0131, 0x9286
_ASCII = b"ASCII\0\0\0"  #: the character code that a UserComment begins with


def parameters_of(item: Item, model: ModelRef) -> dict[str, Any]:
    """All that it takes to make the image again; ``width`` and ``height`` are those it rendered at, before it was scaled up."""
    task = item.task
    scaled = {} if task.upscale_to is None else {"upscaled_to": list(task.upscale_to)}
    start = {} if task.init_image is None else {"init_image": task.init_image, "strength": task.strength}
    return {
        "prompt": task.prompt,
        "negative_prompt": task.negative_prompt,
        "seed": item.seed,
        "steps": task.steps,
        "guidance": task.guidance,
        "width": task.width,
        "height": task.height,
        "model": model.name,
        "model_version": model.version,
        "model_digest": model.digest,
        "degraded": list(task.degraded),
        **({"adapters": [_adapter(adapter) for adapter in task.adapters]} if task.adapters else {}),
        **start,
        **scaled,
    }


def _adapter(adapter: AdapterRef) -> dict[str, Any]:
    model = adapter.model
    return {"name": model.name, "version": model.version, "digest": model.digest, "weight": adapter.weight}


def scaled_up(image: Image.Image, task: RenderTask) -> Image.Image:
    """The image at the size that was asked for, where it rendered smaller."""
    if task.upscale_to is None or image.size == task.upscale_to:
        return image
    return image.resize(task.upscale_to, Image.Resampling.LANCZOS)


def encode_image(image: Image.Image, image_format: ImageFormat, parameters: dict[str, Any]) -> bytes:
    text = json.dumps(parameters, ensure_ascii=True, sort_keys=True)
    buffer = io.BytesIO()
    if image_format is ImageFormat.PNG:
        info = PngInfo()
        info.add_text("Software", SOFTWARE)
        info.add_text(KEYWORD, text)
        image.save(buffer, "PNG", pnginfo=info)
    else:
        image.convert("RGB").save(buffer, image_format.name, quality=QUALITY, exif=_exif(text))
    return buffer.getvalue()


def _exif(text: str) -> Image.Exif:
    exif = Image.Exif()
    exif[_SOFTWARE] = SOFTWARE
    exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = _ASCII + text.encode("ascii")
    return exif


def read_parameters(data: bytes) -> dict[str, Any] | None:
    """The parameters in an image file of ours; None where it carries none."""
    with Image.open(io.BytesIO(data)) as image:
        text = image.info.get(KEYWORD)
        if text is None:
            comment = image.getexif().get_ifd(_EXIF_IFD).get(_USER_COMMENT, b"")
            text = bytes(comment).removeprefix(_ASCII)
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
