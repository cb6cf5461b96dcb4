"""What frozen encoders made of images and captions, kept by content.

``ROOT/KIND-ENCODER/DIGEST.safetensors`` are packs of many entries, each under the digest of what it was made from. The encoder's part of
the name is a digest of its weights and code. So an edited image or caption is looked for under another name and encoded alone, and another
encoder finds nothing of the first one's. A pack is named by its own digest, is never changed, and is left out where it is damaged.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

PACK = 512  #: entries that are lost at most where encoding is cut short
OPEN_PACKS = 256
Entry = dict[str, Tensor]


class EncodedCache:
    """Several processes may share a ``root``. Without one, entries are held in memory and nothing is kept.

    :param kind: what is encoded, such as ``text``
    :param identity: of the encoder
    """

    def __init__(self, root: Path | None, kind: str, identity: str, say: Callable[[str], None] = print) -> None:
        self._directory = None if root is None else root / f"{kind}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
        self._kind, self._say = kind, say

    def keep(self, keys: Sequence[str], encode: Callable[[list[int]], Iterator[tuple[int, Entry]]]) -> Entries:
        """The entries of ``keys``.

        :param encode: yields the entries of the positions in ``keys`` that it is given, in any order; it is called for what isn't kept
        """
        entries = Entries(keys)
        wanted = frozenset(keys)
        for path in sorted(self._directory.glob("*.safetensors")) if self._directory else ():
            if self._is_whole(path):
                entries.add_pack(path, wanted)
        missing = [place for place, key in enumerate(keys) if not entries.has(key)]
        if missing:
            self._say(f"{self._kind}: {len(missing)} of {len(keys)} are encoded now")
        fresh: dict[str, Entry] = {}
        for place, entry in encode(missing) if missing else ():
            fresh[keys[place]] = entry
            if len(fresh) == PACK:
                self._write(fresh, entries)
                fresh = {}
        self._write(fresh, entries)
        return entries

    def _is_whole(self, path: Path) -> bool:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == path.stem:
                return True
        self._say(f"{path} is damaged; what it held is encoded anew")
        path.unlink(missing_ok=True)
        return False

    def _write(self, fresh: dict[str, Entry], entries: Entries) -> None:
        if not self._directory or not fresh:
            entries.hold(fresh)
            return
        try:
            # Cloned, for a part of a batch shares its memory, which the format has no way to say.
            data = save({f"{key}.{part}": value.clone().contiguous() for key, entry in fresh.items() for part, value in entry.items()})
            self._directory.mkdir(parents=True, exist_ok=True)
            name = hashlib.sha256(data).hexdigest()
            partial, path = self._directory / f".{name}.{os.getpid()}", self._directory / f"{name}.safetensors"
            partial.write_bytes(data)
            partial.replace(path)
            entries.add_pack(path, frozenset(fresh))
        except (OSError, SafetensorError) as error:
            self._say(f"{self._kind}: what was encoded can't be kept: {error}")
            entries.hold(fresh)


class Entries:
    """What is kept of a sequence of keys, read from its packs when it is asked for; of each key only its place is in memory."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = keys
        self._packs: list[Path] = []
        self._pack_of: dict[str, int] = {}
        self._parts: frozenset[str] = frozenset()  #: names of an entry's tensors, the same for all
        self._held: dict[str, Entry] = {}
        self._open: OrderedDict[int, Any] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, place: int) -> Entry:
        key = self._keys[place]
        if key in self._held:
            return self._held[key]
        pack = self._pack(self._pack_of[key])
        return {part: pack.get_tensor(f"{key}.{part}") for part in self._parts}

    def has(self, key: str) -> bool:
        return key in self._pack_of or key in self._held

    def add_pack(self, path: Path, wanted: frozenset[str]) -> None:
        """Takes those entries of a pack that are wanted."""
        with safe_open(path, "pt") as pack:
            names = [name.partition(".") for name in pack.keys()]  # noqa: SIM118 - the file is no mapping
        found = [(key, part) for key, _, part in names if key in wanted]
        if found:
            self._pack_of.update(dict.fromkeys((key for key, _ in found), len(self._packs)))
            self._parts |= {part for _, part in found}
            self._packs.append(path)

    def hold(self, entries: dict[str, Entry]) -> None:
        self._held |= entries

    def _pack(self, number: int) -> Any:
        if number not in self._open:
            self._open[number] = safe_open(self._packs[number], "pt")
            if len(self._open) > OPEN_PACKS:
                self._open.popitem(last=False)
        self._open.move_to_end(number)
        return self._open[number]


def content_key(*parts: str | bytes) -> str:
    """Digest over parts whose borders count."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()
