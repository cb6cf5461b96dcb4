"""The tags by which a registered model and its versions say what Atelier needs to know."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from include.contracts.base import Name
from include.contracts.control import ModelDefaults
from include.contracts.dispatch import ModelRef
from include.contracts.errors import refusal_of
from include.registry.client import ModelVersion
from include.registry.errors import ModelRejectedError

SERVE = "atelier.serve"  #: on a registered model: "false" keeps it away from the workers
DIGEST = "atelier.digest"  #: on a version: digest of its file list
DEFAULTS = "atelier.defaults"  #: on a version: ModelDefaults as JSON
DATASET_DIGEST = "atelier.dataset_digest"  #: on a version: the dataset version it was trained on
ADAPTER_OF = "atelier.adapter_of"  #: on a version: the registered model that it is a LoRA adapter of
DISTILLED = "atelier.distilled"  #: on a registered model: the few-step model that may stand in for it under load
DISTILLED_FROM = "atelier.distilled_from"  #: on a version: the registered model that it was distilled from
MOVE = "atelier.move."  #: on a version, with the alias's name behind it: who moved that alias here, when and why, as JSON

_model_name: TypeAdapter[str | None] = TypeAdapter(Name | None)


@dataclass(frozen=True, kw_only=True)
class ServableVersion:
    """A version with all that serving it takes."""

    ref: ModelRef
    defaults: ModelDefaults
    tags: dict[str, str]

    @property
    def adapter_of(self) -> str | None:
        """The model that it is an adapter of; None for a model."""
        return self.tags.get(ADAPTER_OF) or None


def servable(version: ModelVersion) -> ServableVersion:
    """Raises :class:`ModelRejectedError` where a tag is missing or wrong."""
    where = f"version {version.version} of {version.name}"
    for tag in (DIGEST, DEFAULTS):
        if tag not in version.tags:
            raise ModelRejectedError(f"{where} has no tag {tag}; register it with include.registry.publish.register_version")
    try:
        ref = ModelRef(name=version.name, version=version.version, digest=version.tags[DIGEST], source=version.source)
        defaults = ModelDefaults.model_validate_json(version.tags[DEFAULTS])
    except ValidationError as error:
        raise ModelRejectedError(f"{where}: {refusal_of(error).message}") from error
    try:
        _model_name.validate_python(version.tags.get(ADAPTER_OF) or None)
    except ValidationError as error:
        raise ModelRejectedError(f"{where}: tag {ADAPTER_OF} must be the name of a model, not {version.tags[ADAPTER_OF]!r}") from error
    return ServableVersion(ref=ref, defaults=defaults, tags=version.tags)


@dataclass(frozen=True, kw_only=True)
class Move:
    """Who moved an alias to a version, as the mover itself says."""

    by: str
    why: str
    at: float  #: seconds since 1970

    def to_tag(self) -> str:
        return json.dumps({"by": self.by, "why": self.why, "at": self.at})


def move_of(version: ModelVersion, alias: str) -> Move | None:
    """None where nobody signed the move, as for moves in the MLflow UI, or the signature can't be read."""
    try:
        found = json.loads(version.tags[MOVE + alias])
        return Move(by=str(found["by"]), why=str(found["why"]), at=float(found["at"]))
    except (KeyError, TypeError, ValueError):
        return None
