"""From any size to the sizes that a dataset has."""

from __future__ import annotations

import math

from PIL import Image

WHITE = (255, 255, 255)


def aspect_buckets(size: int) -> tuple[tuple[int, int], ...]:
    """Widths and heights, multiples of an eighth of ``size`` (at least 8), with about the area of ``size`` squared and up to 1:2 or 2:1."""
    step = max(8, size // 64 * 8)
    widths = range(step * math.ceil(size / math.sqrt(2) / step), int(size * math.sqrt(2)) + 1, step)
    return tuple((width, max(step, round(size * size / width / step) * step)) for width in widths)


def nearest_bucket(width: int, height: int, size: int) -> tuple[int, int]:
    """The bucket whose aspect ratio is nearest, as a factor; the square one where two are."""
    wanted = math.log(width / height)
    return min(aspect_buckets(size), key=lambda bucket: (abs(math.log(bucket[0] / bucket[1]) - wanted), bucket != (size, size), bucket))


def target_size(width: int, height: int, size: int, fit: str) -> tuple[int, int]:
    """Width and height of the prepared image of one that has ``width`` x ``height`` pixels."""
    return nearest_bucket(width, height, size) if fit == "bucket" else (size, size)


def scaled_size(width: int, height: int, target: tuple[int, int], fit: str) -> tuple[int, int]:
    """To what the image is scaled before it is padded to the target, or cut to it."""
    factors = (target[0] / width, target[1] / height)
    factor = min(factors) if fit == "pad" else max(factors)
    return max(1, round(width * factor)), max(1, round(height * factor))


def shrink(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Averages over boxes where the sizes divide, which is exact; else leaves at least a factor of two to a Lanczos filter."""
    width, height = size
    factor = min(image.width // width, image.height // height)
    if factor > 1 and image.size == (width * factor, height * factor):
        return image.reduce(factor)
    if factor // 2 > 1:
        image = image.reduce(factor // 2)
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def on_white(image: Image.Image) -> Image.Image:
    """RGB of an RGBA image on white. Done before anything is averaged, or colours that can't be seen would come through."""
    flat = Image.new("RGB", image.size, WHITE)
    seen = image.getbbox()
    if seen is not None:
        part = image if seen == (0, 0, *image.size) else image.crop(seen)
        flat.paste(part, seen[:2], part)
    return flat


def place(image: Image.Image, target: tuple[int, int]) -> Image.Image:
    """Centres the image on a white canvas of the target's size: padded where it is smaller, cut where it is larger."""
    if image.size == target:
        return image
    canvas = Image.new("RGB", target, WHITE)
    canvas.paste(image, ((target[0] - image.width) // 2, (target[1] - image.height) // 2))
    return canvas
