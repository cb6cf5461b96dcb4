"""A cheap look at latents: each as one pixel, by a linear map that is fitted to the model's own autoencoder.

Latents of the common autoencoders are close to a linear function of the colours they stand for. The map is found by least squares
over one encoded picture of many colours when the first preview is asked for; it costs a matrix product from then on, while a decode
costs as much as a step or two.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor

TILES = 8  #: colours a side of the picture
TILE = 16  #: pixels a side of a colour


class LatentPreview:
    """:param encode: an RGB image and a generator to ``(1, C, h, w)`` latents"""

    def __init__(self, encode: Callable[[Image.Image, torch.Generator], Tensor]) -> None:
        self.encode = encode
        self._map: Tensor | None = None

    def __call__(self, latents: Tensor) -> list[Image.Image]:
        """Images as large as the latents ``(B, C, h, w)``."""
        if self._map is None:
            self._map = self._fit().to(latents.device)
        colours = _with_one(latents.float()) @ self._map
        pixels = (colours.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
        return [Image.fromarray(image) for image in pixels]

    def _fit(self) -> Tensor:
        """``(C + 1, 3)``: from a latent and a 1 to red, green and blue in 0..1."""
        colours = torch.rand(TILES, TILES, 3, generator=torch.Generator("cpu").manual_seed(0))
        picture = colours.repeat_interleave(TILE, 0).repeat_interleave(TILE, 1)
        image = Image.fromarray((picture * 255).round().to(torch.uint8).numpy())
        latents = _with_one(self.encode(image, torch.Generator("cpu").manual_seed(0)).float().cpu())[0]
        shown = torch.nn.functional.interpolate(picture.permute(2, 0, 1)[None], latents.shape[:2], mode="area")[0].permute(1, 2, 0)
        return torch.linalg.lstsq(latents.flatten(0, 1), shown.flatten(0, 1), driver="gelsd").solution


def _with_one(latents: Tensor) -> Tensor:
    """``(B, C, h, w)`` as ``(B, h, w, C + 1)``."""
    last = latents.permute(0, 2, 3, 1)
    return torch.cat([last, torch.ones_like(last[..., :1])], dim=-1)
