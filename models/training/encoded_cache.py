"""What frozen encoders made of images and captions, kept by content.

``ROOT/KIND-ENCODER/DIGEST.safetensors`` are packs of many entries, each under the digest of what it was made from. The encoder's part of
the name is a digest of its weights and code. So an edited image or caption is looked for under another name and encoded alone, and another
encoder finds nothing of the first one's. A pack is named by its own digest, is never changed, and is left out where it is damaged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

PACK = 512  #: entries that are lost at most where encoding is cut short
Entry = dict[str, Tensor]


class EncodedCache:
    """Several processes may share a ``root``. Without one, nothing is kept.

    :param kind: what is encoded, such as ``text``
    :param identity: of the encoder
    """

    def __init__(self, root: Path | None, kind: str, identity: str, say: Callable[[str], None] = print) -> None:
        self._directory = None if root is None else root / f"{kind}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
        self._kind, self._say = kind, say

    def get(self, keys: Sequence[str], encode: Callable[[list[int]], Iterator[tuple[int, Entry]]]) -> list[Entry]:
        """The entries of ``keys``.

        :param encode: yields the entries of the positions in ``keys`` that it is given, in any order; it is called for what isn't kept
        """
        found = self._read(frozenset(keys))
        missing = [place for place, key in enumerate(keys) if key not in found]
        if missing:
            self._say(f"{self._kind}: {len(missing)} of {len(keys)} are encoded now")
        fresh: dict[str, Entry] = {}
        for place, entry in encode(missing) if missing else ():
            fresh[keys[place]] = entry
            if len(fresh) == PACK:
                found |= self._write(fresh)
                fresh = {}
        found |= self._write(fresh)
        return [found[key] for key in keys]

    def _read(self, wanted: frozenset[str]) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        for path in sorted(self._directory.glob("*.safetensors")) if self._directory else ():
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() != path.stem:
                self._say(f"{path} is damaged; what it held is encoded anew")
                path.unlink(missing_ok=True)
                continue
            for name, value in load(data).items():
                key, _, part = name.partition(".")
                if key in wanted:
                    found.setdefault(key, {})[part] = value
        return found

    def _write(self, entries: dict[str, Entry]) -> dict[str, Entry]:
        if not self._directory or not entries:
            return entries
        try:
            # Cloned, for a part of a batch shares its memory, which the format has no way to say.
            data = save({f"{key}.{part}": value.clone().contiguous() for key, entry in entries.items() for part, value in entry.items()})
            self._directory.mkdir(parents=True, exist_ok=True)
            name = hashlib.sha256(data).hexdigest()
            partial = self._directory / f".{name}.partial"
            partial.write_bytes(data)
            partial.replace(self._directory / f"{name}.safetensors")
        except (OSError, SafetensorError) as error:
            self._say(f"{self._kind}: what was encoded can't be kept: {error}")
        return entries


def content_key(*parts: str | bytes) -> str:
    """Digest over parts whose borders count."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()
