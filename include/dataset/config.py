"""What a dataset is made of, and the bounds of what is accepted into it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Fraction = Annotated[float, Field(ge=0, le=0.5)]


class DatasetConfig(BaseModel):
    """Everything that decides a dataset's content, beside the files themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(
        "openmoji", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64, description="Name of the dataset; a version adds its digest."
    )
    source: Literal["openmoji", "folder"] = Field("openmoji", description="Where the images come from.")
    path: Path | None = Field(None, description="Folder of images with .txt captions beside them; for the source `folder` only.")
    license: str = Field("", max_length=200, description="Licence of a folder's images, recorded with each sample.")
    author: str = Field("", max_length=200, description="Author of a folder's images, recorded with each sample.")
    size: int = Field(64, ge=16, le=1024, description="Side of the prepared square images in pixels, a multiple of 8.")
    limit: int | None = Field(None, ge=1, description="Only the first so many files, in order of their names; empty means all.")
    shard_size: int = Field(512, ge=1, le=100_000, description="Source files a shard.")
    max_file_bytes: int = Field(20_000_000, ge=1, description="Larger files are quarantined unread.")
    max_pixels: int = Field(50_000_000, ge=1, description="Images whose header promises more are quarantined before they are decoded.")
    max_caption: int = Field(1000, ge=1, le=100_000, description="Characters of a caption at most.")
    validation: Fraction = Field(0.02, description="Share of the samples held out for validation.")
    test: Fraction = Field(0.0, description="Share of the samples held out for testing.")

    @field_validator("size")
    @classmethod
    def _multiple_of_8(cls, size: int) -> int:
        if size % 8:
            raise ValueError(f"must be a multiple of 8; {size // 8 * 8} would do")
        return size

    @model_validator(mode="after")
    def _path_matches_source(self) -> Self:
        if (self.source == "folder") != (self.path is not None):
            raise ValueError("path: give the folder for source `folder`, and leave it out otherwise")
        return self
