"""Images side by side."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image


def image_grid(images: Sequence[Image.Image], columns: int = 8, scale: int = 2, gap: int = 4) -> Image.Image:
    """One picture of equally sized ``images``, enlarged by a whole factor without smoothing."""
    if not images:
        raise ValueError("images: a grid needs at least one")
    columns = min(columns, len(images))
    width, height = images[0].width * scale, images[0].height * scale
    rows = -(-len(images) // columns)
    grid = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), (230, 230, 230))
    for index, image in enumerate(images):
        tile = image.resize((width, height), Image.Resampling.NEAREST)
        grid.paste(tile, (gap + index % columns * (width + gap), gap + index // columns * (height + gap)))
    return grid
