"""What each pool may become: ``autoscale.yaml``, checked when it is read and read again when it changes."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from include.contracts.base import Name, Part
from include.contracts.errors import refusal_of

log = logging.getLogger(__name__)

MAX_WORKERS = 1000


class RulesError(ValueError):
    """A file that holds no rules; the text names the field and the fix."""


class LocalTarget(Part):
    """The local profile's own workers, as processes under its supervisor."""

    kind: Literal["local"] = "local"


class KubernetesTarget(Part):
    """A workload of a Kubernetes cluster, scaled by its scale subresource."""

    kind: Literal["kubernetes"] = "kubernetes"
    namespace: Name
    workload: str = Field(
        pattern=r"^(deployment|statefulset)/[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", description="deployment/NAME or statefulset/NAME."
    )
    context: str = Field(
        "", max_length=256, description="Context of the kubeconfig; empty means the cluster this runs in, else the current one."
    )


Target = Annotated[LocalTarget | KubernetesTarget, Field(discriminator="kind")]


class PoolScaling(Part):
    """One pool's limits and manners."""

    min_workers: int = Field(1, ge=0, le=MAX_WORKERS, description="Never fewer; 0 lets an idle pool go to zero.")
    max_workers: int = Field(ge=1, le=MAX_WORKERS, description="Never more.")
    start_s: float = Field(30.0, gt=0, le=3600, description="Seconds from asking for a worker until it renders.")
    target: float = Field(0.75, ge=0.1, le=1, description="Share of its time that a worker should render in the long run.")
    idle_s: float = Field(
        300.0, ge=0, le=86_400, description="Seconds without any work after which the last worker of a pool with min_workers 0 goes."
    )
    down_after_s: float = Field(300.0, ge=0, le=86_400, description="Workers that were needed at any time in so many seconds stay.")
    down_every_s: float = Field(30.0, ge=0, le=3600, description="Least time between two steps down.")
    cost_per_h: float = Field(1.0, ge=0, le=1e6, description="Of one worker. Work that may go to several pools goes to the cheapest first.")
    spot: bool = Field(False, description="Whether its workers may be refused or taken away; work then goes to the next pool meanwhile.")
    driver: Target = Field(LocalTarget(), description="What is scaled.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min_workers > self.max_workers:
            raise ValueError(f"max_workers must be at least min_workers, which is {self.min_workers}")
        return self


class ScalingRules(Part):
    """The whole file."""

    every_s: float = Field(2.0, ge=0.1, le=300, description="Seconds between two decisions.")
    history_s: float = Field(600.0, ge=0, le=86_400, description="How much of the topics is read at the start, in seconds.")
    pools: dict[Name, PoolScaling] = Field(min_length=1, description="By name of the pool; a pool that is left out is left alone.")


def load_rules(path: Path) -> ScalingRules:
    """From a YAML file. Raises :class:`RulesError`."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        words = "docs/components/autoscale.md has an example to begin with; --rules names another file"
        raise RulesError(f"{path}: {error.strerror or error}; {words}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise RulesError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise RulesError(f"{path}: must hold pools; docs/components/autoscale.md has an example")
    try:
        return ScalingRules.model_validate_json(json.dumps(content))
    except ValidationError as error:
        raise RulesError(f"{path}: {refusal_of(error).message}") from error
    except TypeError as error:
        raise RulesError(f"{path}: {error}; write plain text and numbers") from error


class RulesFile:
    """The rules of a file that people edit while they hold. Raises :class:`RulesError` where it can't be read to begin with."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._stamp()
        self.rules = load_rules(path)
        self.trouble = ""  #: why the file as it is now does not hold

    def refresh(self) -> ScalingRules:
        """Read it again if it changed; a bad file is told once, and what held before goes on holding."""
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen = stamp
            self._reload()
        return self.rules

    def _reload(self) -> None:
        try:
            self.rules, self.trouble = load_rules(self._path), ""
            log.info("%s was read again", self._path)
        except RulesError as error:
            self.trouble = str(error)
            log.error("%s; the rules from before go on holding", error)

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
