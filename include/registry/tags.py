"""The tags by which a registered model and its versions say what Atelier needs to know."""

from __future__ import annotations

from collections.abc import Mapping
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
DATASET_VERSION = "atelier.dataset_version"  #: on a version, and on a run: the same by its name
DATASET_AT = "atelier.dataset_at"  #: on a version: where that dataset version is, where it isn't one of this installation's own
ADAPTER_OF = "atelier.adapter_of"  #: on a version: the registered model that it is a LoRA adapter of
DISTILLED = "atelier.distilled"  #: on a registered model: the few-step model that may stand in for it under load
DISTILLED_FROM = "atelier.distilled_from"  #: on a version: the registered model that it was distilled from
CANARY_SHARE = "atelier.canary_share"  #: on a registered model: share of its requests for the alias challenger
CANARY_UNTIL = "atelier.canary_until"  #: on a registered model: when a canary that nobody ended ends by itself, seconds since 1970

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


def canary_share(tags: Mapping[str, str], now: float) -> float | None:
    """The share of a registered model's requests that its challenger gets; None where no canary is wanted any more.

    Raises :class:`ModelRejectedError` where a tag can't be read, as one may be that was written by hand.
    """
    if CANARY_SHARE not in tags:
        return None
    try:
        share, until = float(tags[CANARY_SHARE]), float(tags.get(CANARY_UNTIL, "inf"))
    except ValueError as error:
        raise ModelRejectedError(f"tags {CANARY_SHARE} and {CANARY_UNTIL} must be numbers: {error}") from error
    if not 0 < share < 1:
        raise ModelRejectedError(f"tag {CANARY_SHARE} must be above 0 and below 1, not {share:g}")
    return share if now < until else None


def canary_trouble(challenger: ModelDefaults, champion: ModelDefaults) -> str:
    """Why a version can't take requests that were accepted for the champion; empty where it can."""
    if challenger.sizes != champion.sizes:
        return "it renders other sizes than the champion"
    return "it renders fewer images a request than the champion" if challenger.max_images < champion.max_images else ""
