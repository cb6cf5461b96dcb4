"""Which near copies are found depends on the images alone: not on when each of them came, nor on what was there before."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from include.dataset import near_state
from include.dataset.fingerprints import fingerprint, stacked
from include.dataset.near_duplicates import Candidates, find_copies
from include.dataset.near_state import name_of, near_pairs
from tests.unit.include.dataset.test_near_duplicates import DRAWINGS


def crowd() -> np.ndarray:
    """Crops of a few drawings, each by other pixels, so that every picture has more near ones than are compared."""
    crops = [image.crop((step, 0, 128, 128 - step)) for image in DRAWINGS[:4] for step in range(7)]
    return stacked([fingerprint(image.resize((128, 128), Image.Resampling.BICUBIC)) for image in crops])


PICTURES = crowd()
NAMES = [name_of(picture.tobytes()) for picture in PICTURES]


def found(root: Path, chosen: Sequence[int], held_out: Collection[int] = ()) -> set[tuple[int, int]]:
    held = [place for place, index in enumerate(chosen) if index in held_out]
    pairs = near_pairs([NAMES[index] for index in chosen], lambda some: PICTURES[[chosen[index] for index in some]], root, "crowd", held)
    assert pairs == sorted(set(pairs)) and all(one < other for one, other in pairs)
    return {(chosen[one], chosen[other]) for one, other in pairs}


def test_the_crowd_has_more_near_pictures_than_are_compared(tmp_path: Path) -> None:
    pairs = found(tmp_path, range(28))
    assert len(pairs) > 28
    assert all(one // 7 == other // 7 for one, other in pairs)


@pytest.mark.parametrize("seed", range(3))
def test_pictures_that_come_and_go_leave_what_a_look_at_all_finds(tmp_path: Path, seed: int) -> None:
    draw = np.random.default_rng(seed)
    there = set(range(0, 28, 2))
    found(tmp_path / "kept", sorted(there))
    for _ in range(6):
        there ^= set(draw.choice(28, 3, replace=False).tolist())
        assert found(tmp_path / "kept", sorted(there)) == found(tmp_path / str(len(list(tmp_path.iterdir()))), sorted(there))


def test_no_copy_of_what_is_held_out_hides_behind_nearer_pictures(tmp_path: Path) -> None:
    missed = 0
    for seed in range(5):
        held_out = sorted(np.random.default_rng(seed).choice(28, 6, replace=False).tolist())
        trained = [index for index in range(28) if index not in held_out]
        copies = find_copies(PICTURES[trained], PICTURES[held_out])
        crossing = {tuple(sorted((trained[one], held_out[copy]))) for one, copy in copies}
        missed += len(crossing - found(tmp_path / "without", range(28)))
        assert crossing <= found(tmp_path / "with", range(28), held_out)
    assert missed


def test_what_is_held_out_may_change_like_the_pictures(tmp_path: Path) -> None:
    for chosen, held_out in ((range(0, 28, 2), {0, 4}), (range(28), {0, 4, 5}), (range(28), {4, 9}), (range(3, 28), {4, 9})):
        anew = found(tmp_path / f"{chosen}{held_out}", chosen, held_out)
        assert found(tmp_path / "kept", chosen, held_out) == anew >= found(tmp_path / "without", chosen)


def test_a_memory_that_is_broken_is_made_anew(tmp_path: Path) -> None:
    pairs = found(tmp_path, range(28))
    (memory,) = (tmp_path / ".cache" / "near").iterdir()
    memory.write_bytes(memory.read_bytes()[:100])
    assert found(tmp_path, range(28)) == pairs


def test_pictures_alike_are_near_and_loaded_once(tmp_path: Path) -> None:
    loaded: list[int] = []

    def pictures(some: list[int]) -> np.ndarray:
        loaded.extend(some)
        return PICTURES[[0 for _ in some]]

    assert near_pairs([NAMES[0]] * 3, pictures, tmp_path, "same") == [(0, 1), (0, 2)]
    assert loaded == [0]


def test_only_what_a_new_picture_touches_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    original = near_state.are_copies

    def counted(candidates: Candidates, pictures: np.ndarray) -> np.ndarray:
        compared.append(len(candidates.turns))
        return original(candidates, pictures)

    monkeypatch.setattr(near_state, "are_copies", counted)
    found(tmp_path, range(27))
    found(tmp_path, range(28))
    found(tmp_path, range(28))
    assert len(compared) == 2 and compared[1] < compared[0] / 4
