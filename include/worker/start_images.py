"""The image that an image-to-image request starts from: fetched, checked before it is decoded, brought to the size that is rendered.

An execution loads them before it renders, so that a bad one fails its own request alone::

    for work in open_works:
        try:
            images[work.task.request_id] = load_start_image(store, work.task)
        except StartImageError as error:
            fail(work, ReasonCode.INVALID_FIELD, str(error), retryable=False)

and hands them to :meth:`Pipeline.prepare` as a :class:`Start`, one an item. :class:`StoreUnavailable` passes through: it says nothing
about the image.
"""

from __future__ import annotations

import io
import warnings

from PIL import Image, ImageOps, UnidentifiedImageError

from include.contracts.dispatch import RenderTask
from include.contracts.requests import owns
from include.storage import ObjectMissingError, ObjectStore

MAX_BYTES = 20 * 1024 * 1024
MAX_PIXELS = 36_000_000
FORMATS = ("PNG", "JPEG", "WEBP")


class StartImageError(ValueError):
    """The request's ``init_image`` is not one to start from; no retry helps."""


def load_start_image(store: ObjectStore, task: RenderTask) -> Image.Image:
    """RGB, of the task's size: upright, transparency on white, the middle of it where the aspect differs.

    Raises :class:`StartImageError` for an object that is another tenant's, missing, too large, or no PNG, JPEG or WebP image.
    """
    key = task.init_image
    if key is None or not owns(task.tenant, key):
        raise StartImageError(f"init_image: {key} is not one of tenant {task.tenant}; use a key under inputs/{task.tenant}/")
    image = _opened(_fetched(store, key), key)
    return ImageOps.fit(image, (task.width, task.height), Image.Resampling.LANCZOS)


def _fetched(store: ObjectStore, key: str) -> bytes:
    info = store.head(key)
    if info is None:
        raise StartImageError(f"init_image: there is no object {key}; put the image there first")
    if info.size > MAX_BYTES:
        raise StartImageError(f"init_image: {key} has {info.size} bytes; send one of at most {MAX_BYTES}")
    try:
        return store.get(key)
    except ObjectMissingError as error:
        raise StartImageError(f"init_image: object {key} was deleted; put the image there again") from error


def _opened(data: bytes, key: str) -> Image.Image:
    """Decoded only once its header promised a size that fits, for a few kilobytes may decode to gigabytes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is lower
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise StartImageError(f"init_image: {key} has {image.width}x{image.height} pixels; send one of at most {MAX_PIXELS}")
                return _flat(ImageOps.exif_transpose(image))
    except StartImageError:
        raise
    except UnidentifiedImageError as error:
        raise StartImageError(f"init_image: {key} is no image of a known format; send {', '.join(FORMATS)}") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # what Pillow raises for broken files
        raise StartImageError(f"init_image: {key} can't be decoded: {error}; send it again") from error


def _flat(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    above = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", above.size, "white"), above).convert("RGB")
