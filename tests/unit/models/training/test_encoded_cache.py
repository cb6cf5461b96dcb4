from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models.training import encoded_cache
from models.training.encoded_cache import EncodedCache, Entry, content_key


class Encoder:
    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, places: list[int]) -> Iterator[tuple[int, Entry]]:
        for place in places:
            self.asked.append(place)
            yield place, {"value": torch.full((2,), float(place))}


def cache(root: Path | None, identity: str = "weights") -> EncodedCache:
    return EncodedCache(root, "text", identity, lambda line: None)


def test_what_is_kept_is_not_encoded_again(tmp_path: Path) -> None:
    first, second = Encoder(), Encoder()
    cache(tmp_path).keep(["a", "b"], first)
    found = cache(tmp_path).keep(["b", "c", "a"], second)
    assert (first.asked, second.asked) == ([0, 1], [1])
    assert [found[place]["value"][0].item() for place in range(len(found))] == [1.0, 1.0, 0.0]


def test_without_a_directory_nothing_is_kept() -> None:
    encoder = Encoder()
    for _ in range(2):
        cache(None).keep(["a"], encoder)
    assert encoder.asked == [0, 0]


def test_another_encoder_has_entries_of_its_own(tmp_path: Path) -> None:
    encoder = Encoder()
    for identity in ("one", "other"):
        cache(tmp_path, identity).keep(["a"], encoder)
    assert encoder.asked == [0, 0]


def test_a_damaged_pack_is_encoded_anew(tmp_path: Path) -> None:
    cache(tmp_path).keep(["a"], Encoder())
    (pack,) = tmp_path.rglob("*.safetensors")
    pack.write_bytes(pack.read_bytes()[:-1])
    encoder = Encoder()
    cache(tmp_path).keep(["a"], encoder)
    assert encoder.asked == [0]


def test_what_was_encoded_before_a_stop_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded_cache, "PACK", 2)

    def stopped(places: list[int]) -> Iterator[tuple[int, Entry]]:
        yield from Encoder()(places[:3])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache(tmp_path).keep(["a", "b", "c", "d"], stopped)
    encoder = Encoder()
    cache(tmp_path).keep(["a", "b", "c", "d"], encoder)
    assert encoder.asked == [2, 3]


def test_a_root_that_can_not_be_written_costs_only_the_keeping(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    entries = cache(tmp_path / "file").keep(["a"], Encoder())
    assert entries[0]["value"].tolist() == [0.0, 0.0]


def test_kept_entries_are_in_their_files_and_not_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded_cache, "PACK", 4)
    monkeypatch.setattr(encoded_cache, "OPEN_PACKS", 2)
    keys = [f"key {number}" for number in range(30)]
    entries = cache(tmp_path).keep(keys, Encoder())
    assert [entries[place]["value"][0].item() for place in (29, 0, 7, 8, 29)] == [29, 0, 7, 8, 29]
    assert not entries._held
    assert len(entries._open) == 2


def test_the_borders_of_parts_count() -> None:
    assert content_key("ab", "c") != content_key("a", "bc")
