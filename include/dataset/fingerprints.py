"""A small picture of an image, from which everything by which images are compared is computed."""

from __future__ import annotations

import numpy as np
from PIL import Image

SIDE = 32  #: pixels
LOW = 8  #: frequencies of each direction in a descriptor
CHROMA_LOW, CHROMA_WEIGHT = 5, 2.0
_COLOURS = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]], np.float32)  #: JFIF's Y, Cb and Cr


def fingerprint(image: Image.Image) -> bytes:
    """(32, 32, 3) uint8 of an RGB image, averaged, whatever its aspect ratio."""
    return image.resize((SIDE, SIDE), Image.Resampling.BOX).tobytes()


def stacked(fingerprints: list[bytes]) -> np.ndarray:
    """(N, 32, 32, 3) uint8."""
    return np.frombuffer(b"".join(fingerprints), np.uint8).reshape(-1, SIDE, SIDE, 3)


def luma(pictures: np.ndarray) -> np.ndarray:
    """(N, S, S) float32 of (N, S, S, 3)."""
    return pictures.astype(np.float32) @ _COLOURS[0]


def smoothed(pictures: np.ndarray) -> np.ndarray:
    """Weighted with the neighbours, as float32. Thin lines that fall between the pixels of one picture and onto those of another agree
    only after that."""
    values = pictures.astype(np.float32)
    for axis in (1, 2):
        padded = np.pad(values, [(1, 1) if index == axis else (0, 0) for index in range(values.ndim)], mode="edge")
        before, middle, after = (np.take(padded, np.arange(shift, shift + values.shape[axis]), axis) for shift in range(3))
        values = (before + 2 * middle + after) / 4
    return values


def descriptors(pictures: np.ndarray) -> np.ndarray:
    """(N, 3, 8, 8) float32: low frequencies of luma and, fewer and with more weight, of the two chromas, by an orthonormal DCT-II.

    In levels; the mean of the luma is left out, the means of the chromas are in.
    """
    basis = _dct()[:LOW]
    found = basis @ np.moveaxis(pictures.astype(np.float32) @ _COLOURS.T, 3, 1) @ basis.T / SIDE
    found[:, 0, 0, 0] = 0
    found[:, 1:] *= CHROMA_WEIGHT
    found[:, 1:, CHROMA_LOW:] = 0
    found[:, 1:, :, CHROMA_LOW:] = 0
    return found


def perceptual_hashes(pictures: np.ndarray) -> list[str]:
    """64 bits in hex for each: which of the low frequencies are above their median (Zauner, 2010)."""
    found = descriptors(pictures)[:, 0].reshape(len(pictures), -1)
    bits = found > np.median(found, axis=1, keepdims=True)
    return [row.tobytes().hex() for row in np.packbits(bits, axis=1)]


def _dct() -> np.ndarray:
    steps = np.arange(SIDE)
    basis = np.cos(np.pi * (2 * steps[None] + 1) * steps[:, None] / (2 * SIDE)) * np.sqrt(2 / SIDE)
    basis[0] /= np.sqrt(2)
    return basis.astype(np.float32)
