"""What a dataset is made of, and the bounds of what is accepted into it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Fraction = Annotated[float, Field(ge=0, le=0.5)]
Text = Annotated[str, Field(max_length=200)]

#: The fields that decide what becomes of one image, whatever its caption and the images around it.
IMAGE_FIELDS = frozenset(
    {"size", "fit", "image_format", "quality", "max_file_bytes", "max_pixels", "min_side", "max_aspect", "image_classifier"}
)


class DatasetConfig(BaseModel):
    """Everything that decides a dataset's content, beside the files themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(
        "openmoji", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64, description="Name of the dataset; a version adds its digest."
    )
    source: Literal["openmoji", "folder", "feedback"] = Field("openmoji", description="Where the images come from.")
    path: str | None = Field(None, max_length=4096, description="Folder or s3://bucket/prefix; for the sources `folder` and `feedback`.")
    license: str = Field("", max_length=200, description="Licence of the images for which the source states none.")
    author: str = Field("", max_length=200, description="Author of the images for which the source names none.")
    limit: int | None = Field(None, ge=1, description="Only the first so many files, in order of their names; empty means all.")
    shard_size: int = Field(512, ge=1, le=100_000, description="Source files a shard; shards are prepared side by side.")

    size: int = Field(
        64, ge=16, le=1024, description="Side of the prepared images in pixels, a multiple of 8; of buckets, that of the square one."
    )
    fit: Literal["pad", "crop", "bucket"] = Field(
        "pad", description="Other aspect ratios: padded with white, cut to a square, or cut to the nearest bucket of the same area."
    )
    image_format: Literal["png", "jpeg", "webp"] = Field("png", description="How prepared images are stored; png loses nothing.")
    quality: int = Field(92, ge=1, le=100, description="Of jpeg and webp.")

    max_file_bytes: int = Field(20_000_000, ge=1, description="Larger files are quarantined unread.")
    max_pixels: int = Field(50_000_000, ge=1, description="Images whose header promises more are quarantined before they are decoded.")
    min_side: int = Field(1, ge=1, le=4096, description="Images whose shorter side has fewer pixels are quarantined.")
    max_aspect: float = Field(10.0, ge=1, le=10_000, description="Images whose longer side is more times the shorter are quarantined.")
    min_entropy: float = Field(0.0, ge=0, le=8, description="Bits a pixel of the grey histogram; a plain surface has 0.")
    min_sharpness: float = Field(0.0, ge=0, le=1e6, description="Variance of the Laplacian, which blur lowers; 0 takes everything.")
    image_classifier: Text = Field("", description="Entry point of group atelier.image_classifiers that scores images 0..1; empty: none.")
    max_score: float = Field(0.5, ge=0, le=1, description="Images that the classifier scores higher are quarantined.")

    min_caption: int = Field(1, ge=1, le=1000, description="Characters of a caption at least.")
    max_caption: int = Field(1000, ge=1, le=100_000, description="Characters of a caption at most.")
    caption_language: Literal["", "de", "en", "es", "fr", "it", "nl", "pt"] = Field(
        "", description="Captions that are plainly in another language are dropped; empty takes every language."
    )
    caption_templates: tuple[Text, ...] = Field((), max_length=16, description="Extra captions, with {caption} for the main one.")
    captioner: Text = Field("", description="Entry point of group atelier.captioners that adds captions; empty: none.")
    licenses: tuple[Text, ...] = Field((), max_length=64, description="Licences taken, with * for any ending; empty takes all.")
    min_rating: float = Field(4.0, ge=1, le=5, description="Mean rating from which an image of the feedback archive is taken.")

    near_duplicates: Literal["auto", "drop", "group"] = Field(
        "auto", description="Near copies: only the first stays, or all on one side of the split. auto: group for openmoji, else drop."
    )
    against: tuple[Text, ...] = Field((), max_length=64, description="Dataset versions of which no copy and no near copy is taken.")
    validation: Fraction = Field(0.02, description="Share of the samples held out for validation.")
    test: Fraction = Field(0.0, description="Share of the samples held out for testing.")

    @property
    def drops_near_duplicates(self) -> bool:
        # OpenMoji's variants of one motif are drawings of their own, with captions that tell them apart.
        return self.near_duplicates == "drop" or (self.near_duplicates == "auto" and self.source != "openmoji")

    @field_validator("path", mode="before")
    @classmethod
    def _text_of_path(cls, path: Any) -> Any:
        return str(path) if isinstance(path, Path) else path

    @field_validator("size")
    @classmethod
    def _multiple_of_8(cls, size: int) -> int:
        if size % 8:
            raise ValueError(f"must be a multiple of 8; {size // 8 * 8} would do")
        return size

    @field_validator("caption_templates")
    @classmethod
    def _templates_have_a_place(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        for template in templates:
            if "{caption}" not in template:
                raise ValueError(f"{template!r} has no {{caption}} to put the caption in")
        return templates

    @model_validator(mode="after")
    def _path_matches_source(self) -> Self:
        if (self.source == "openmoji") != (self.path is None):
            raise ValueError("path: give the folder for sources `folder` and `feedback`, and leave it out otherwise")
        return self
