"""Finding near copies, beside ``imagehash.phash`` with a Hamming distance of at most 8.

Originals are OpenMoji drawings on white at 256 px, without exact copies. Each transform makes a copy of every original; a match is a
pair of a copy and an original. ``recall``: share of the copies that are matched with their own original. ``precision``: share of the
matches that are. Pairs of different drawings that look alike count as wrong for both.

``transforms``: resize (to 90-200 px), jpeg (quality 25-60), crop (95 % of each side, anywhere), mirror, rotate (90
degrees), tilt (3 degrees).
``colour``: copies with two channels exchanged, of originals that look different then: share that is matched with its original, which is
wrong. ``pairs_among_originals``: matches between different drawings.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from include.dataset.fingerprints import fingerprint, stacked
from include.dataset.fitting import on_white
from include.dataset.near_duplicates import find_pairs
from tests.support.emoji_files import emoji_folder
from tests.support.peers import PeerProcess, PeerUnavailable, peer_python

SIDE, LIMIT = 256, 8
PEER = "imagehash==4.3.2"
Pairs = set[tuple[int, int]]


def jpeg(image: Image.Image, draw: np.random.Generator) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(draw.integers(25, 60)))
    return Image.open(buffer).convert("RGB")


def crop(image: Image.Image, draw: np.random.Generator) -> Image.Image:
    side = round(image.width * 0.95)
    left, top = (int(draw.integers(0, image.width - side + 1)) for _ in range(2))
    return image.crop((left, top, left + side, top + side))


def resize(image: Image.Image, draw: np.random.Generator) -> Image.Image:
    side = int(draw.integers(90, 200))
    return image.resize((side, side), Image.Resampling.BICUBIC)


TRANSFORMS: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "resize": resize,
    "jpeg": jpeg,
    "crop": crop,
    "mirror": lambda image, _: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "rotate": lambda image, _: image.transpose(Image.Transpose.ROTATE_90),
    "tilt": lambda image, draw: image.rotate(3 * draw.choice([-1, 1]), Image.Resampling.BICUBIC, fillcolor="white"),
}


def originals(count: int) -> list[Image.Image]:
    paths = sorted(emoji_folder().glob("*.png"))
    found: dict[bytes, Image.Image] = {}
    for path in paths[:: max(1, len(paths) // count)]:
        image = on_white(Image.open(path).convert("RGBa").reduce(2))
        found.setdefault(image.tobytes(), image)
    return list(found.values())[:count]


def swapped(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image)[..., ::-1].copy())


def ours(images: list[Image.Image], copies: list[Image.Image]) -> Pairs:
    pictures = stacked([fingerprint(image) for image in (*images, *copies)])
    return {(one, other - len(images)) for one, other in find_pairs(pictures, np.arange(len(images), len(pictures))) if one < len(images)}


class Peer:
    """imagehash in its own environment."""

    def __init__(self, process: PeerProcess, scratch: Path) -> None:
        self._process, self._scratch = process, scratch

    def hashes(self, images: list[Image.Image]) -> np.ndarray:
        """(N, 64) bool."""
        path = self._scratch / "images.npy"
        np.save(
            path,
            np.stack([np.asarray(image.resize((SIDE, SIDE))) if image.size != (SIDE, SIDE) else np.asarray(image) for image in images]),
        )
        texts = self._process.ask(str(path))
        return np.unpackbits(np.array([list(bytes.fromhex(text)) for text in texts], np.uint8), axis=1).astype(bool)

    def pairs(self, images: np.ndarray, copies: np.ndarray) -> Pairs:
        distances = (images[:, None] != copies[None]).sum(axis=2)
        return {(int(one), int(other)) for one, other in zip(*np.nonzero(distances <= LIMIT), strict=True)}


def score(pairs: Pairs, count: int) -> dict[str, float]:
    right = sum(one == other for one, other in pairs)
    return {"recall": round(right / count, 4), "precision": round(right / len(pairs), 4) if pairs else 1.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500)
    arguments = parser.parse_args()
    images = originals(arguments.images)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as scratch:
        try:
            program = Path(__file__).with_name("peer_programs") / "hash_images.py"
            with PeerProcess(peer_python(PEER), program) as process:
                result = compare(images, Peer(process, Path(scratch)))
        except PeerUnavailable as error:
            result = {**compare(images, None), "peer_unavailable": str(error)}
    print(json.dumps({**result, "images": len(images), "seconds": round(time.monotonic() - started, 1)}))


def compare(images: list[Image.Image], peer: Peer | None) -> dict[str, Any]:
    hashes = peer.hashes(images) if peer else np.zeros((0, 64), bool)
    transforms: dict[str, Any] = {}
    for name, transform in TRANSFORMS.items():
        draw = np.random.default_rng(7)
        copies = [transform(image, draw) for image in images]
        transforms[name] = {"ours": score(ours(images, copies), len(images))}
        if peer:
            transforms[name]["peer"] = score(peer.pairs(hashes, peer.hashes(copies)), len(images))
        print(f"{name}: {transforms[name]}", file=sys.stderr, flush=True)
    return {"transforms": transforms, "colour": colour(images, peer), "pairs_among_originals": among(images, hashes, peer)}


def colour(images: list[Image.Image], peer: Peer | None) -> dict[str, float]:
    """Of originals whose copy differs by at least 10 levels on average over the drawn pixels."""
    coloured = [image for image in images if looks_different(np.asarray(image).astype(int))]
    copies = [swapped(image) for image in coloured]
    found = {"ours": score(ours(coloured, copies), len(coloured))["recall"]}
    if peer:
        found["peer"] = score(peer.pairs(peer.hashes(coloured), peer.hashes(copies)), len(coloured))["recall"]
    return found


def looks_different(pixels: np.ndarray) -> bool:
    drawn = pixels.min(axis=2) < 250
    return bool(drawn.any() and np.abs(pixels - pixels[..., ::-1])[drawn].mean() >= 10)


def among(images: list[Image.Image], hashes: np.ndarray, peer: Peer | None) -> dict[str, int]:
    found = {"ours": len(find_pairs(stacked([fingerprint(image) for image in images])))}
    if peer:
        found["peer"] = sum(one < other for one, other in peer.pairs(hashes, hashes))
    return found


if __name__ == "__main__":
    main()
