"""How long things are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Days = Annotated[float, Field(ge=0, le=36_500, allow_inf_nan=False)]


class Limits(BaseModel):
    """Ages in days. None keeps things of that kind for ever."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    grace_days: Days = Field(2.0, description="Nothing younger goes, whatever the other limits say; leftovers apart.")
    dataset_days: Days | None = Field(90.0, description="Dataset versions.")
    keep_datasets: Annotated[int, Field(ge=0, le=1000)] = Field(3, description="Newest versions of each dataset that stay at any age.")
    checkpoint_days: Days | None = Field(14.0, description="Checkpoints of training runs that ended well.")
    run_days: Days | None = Field(60.0, description="Directories of training and evaluation runs, checkpoints of failed ones included.")
    artifact_days: Days | None = Field(60.0, description="Large artifacts of MLflow runs.")
    artifact_mb: Annotated[float, Field(ge=0, le=1e9)] = Field(1.0, description="Artifacts from this size on, 10^6 bytes, are large.")
    version_days: Days | None = Field(None, description="Registered model versions that no alias names and no champion came from.")
    event_days: Annotated[float, Field(gt=0, le=36_500)] | None = Field(
        None, description="Retention of the topic `events`; None: as shipped."
    )
    archive_days: Days | None = Field(None, description="Days of the feedback archive.")
    image_days: Days | None = Field(None, description="Result images in the object store.")
    leftover_days: Days | None = Field(1.0, description="Previews, parked renders, unfinished files: what normally goes by itself.")
    cache_days: Days | None = Field(30.0, description="Fetched models, encoded captions and images, prepared images, compressed variants.")

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Self:
        """The limits among a form's fields. Raises :class:`ValueError` that names the field."""
        try:
            return cls.model_validate({name: params[name] for name in cls.model_fields if name in params})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
