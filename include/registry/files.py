"""What a model version is: the list of its files, each with its digest, and the digest of that list."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from include.registry.errors import ModelRejectedError

LIST_NAME = "files.json"  #: the list itself, beside the files that it lists
#: Nothing that runs code when it is read: no pickles in any of their spellings, no Python.
ALLOWED_SUFFIXES = frozenset({".json", ".md", ".model", ".safetensors", ".txt"})
PICKLE_SUFFIXES = frozenset({".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"})
MAX_FILES = 1000
_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._+@-]*")


class FileEntry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0, description="Bytes.")]


class FileList(BaseModel):
    """Relative path to entry. Two directories with equal files have equal lists, byte for byte."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: Annotated[dict[str, FileEntry], Field(min_length=1, max_length=MAX_FILES)]

    @field_validator("files")
    @classmethod
    def _names(cls, files: dict[str, FileEntry]) -> dict[str, FileEntry]:
        folders = {parent.as_posix() for name in files for parent in Path(name).parents}
        for name in files:
            check_name(name)
            if name in folders or name == LIST_NAME:
                raise ValueError(f"{name} is {'the list itself' if name == LIST_NAME else 'listed as a file and as a folder'}; take it out")
        return files

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Raises :class:`ModelRejectedError`."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise ModelRejectedError(f"{LIST_NAME}: {'.'.join(map(str, first['loc'])) or 'document'}: {first['msg']}") from error

    def to_json(self) -> bytes:
        """Canonical: sorted keys, no spaces, UTF-8."""
        return json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.to_json()).hexdigest()

    @property
    def size(self) -> int:
        return sum(entry.size for entry in self.files.values())


def check_name(name: str) -> str:
    """The name itself. Raises :class:`ValueError` where it leaves its directory, is hidden, or is of a kind that may hold code."""
    if len(name) > 255 or not all(_SEGMENT.fullmatch(segment) for segment in name.split("/")):
        raise ValueError(f"{name[:80]!r} is not a plain relative path inside the model's directory")
    suffix = Path(name).suffix.lower()
    if suffix in PICKLE_SUFFIXES:
        raise ValueError(f"{name} may be a pickle, which runs code when it is read; convert it to .safetensors")
    if suffix not in ALLOWED_SUFFIXES:
        raise ValueError(f"{name} has a suffix that models may not have; allowed: {' '.join(sorted(ALLOWED_SUFFIXES))}")
    return name


def list_files(directory: Path) -> FileList:
    """The files below ``directory``, without the list itself. Raises :class:`ModelRejectedError` for links and files of other kinds."""
    if not directory.is_dir():
        raise ModelRejectedError(f"{directory} is not a directory")
    files: dict[str, FileEntry] = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_symlink():
            raise ModelRejectedError(f"{name} is a link; put the file itself there")
        if path.is_file() and name != LIST_NAME:
            files[_checked(name)] = FileEntry(sha256=sha256_of(path), size=path.stat().st_size)
    if not files:
        raise ModelRejectedError(f"{directory} holds no files")
    return FileList(files=files)


def verify(directory: Path, digest: str) -> FileList:
    """The directory's list. Raises :class:`ModelRejectedError` where its digest is another one."""
    found = list_files(directory)
    if found.digest != digest:
        raise ModelRejectedError(f"{directory} has digest {found.digest[:12]}…, not {digest[:12]}…: a file was changed, added or removed")
    return found


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checked(name: str) -> str:
    try:
        return check_name(name)
    except ValueError as error:
        raise ModelRejectedError(str(error)) from error
