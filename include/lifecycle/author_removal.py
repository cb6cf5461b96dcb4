"""Removing an author: what holds images of theirs, down to the models, and the next dataset versions without them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from include.config import Settings
from include.dataset.removal import Affected, newest_of, remove_author, versions_with
from include.dataset.versions import DatasetVersion
from include.lifecycle.datasets import dataset_root, newest_name, point_to
from include.registry.client import RegistryClient
from include.registry.tags import DATASET_DIGEST


@dataclass(frozen=True, kw_only=True)
class AffectedModel:
    """A model version that was trained on a dataset with images of the author."""

    model: str
    version: str
    aliases: tuple[str, ...]
    dataset_version: str


def affected_datasets(settings: Settings, author: str) -> list[Affected]:
    """Raises :class:`LookupError` where no dataset credits the author."""
    found = versions_with(dataset_root(settings), author)
    if not found:
        raise LookupError(f"author: no dataset version credits {author!r}")
    return found


def affected_lines(settings: Settings, author: str) -> Iterator[str]:
    """What holds images of the author, for people. Raises as the two above and below do."""
    datasets = affected_datasets(settings, author)
    yield from dataset_lines(datasets)
    yield from model_lines(affected_models(settings, datasets))


def dataset_lines(datasets: Sequence[Affected]) -> Iterator[str]:
    yield from (f"dataset {found.version}: {found.samples} samples" for found in datasets)


def model_lines(models: Sequence[AffectedModel]) -> Iterator[str]:
    for model in models:
        aliases = f" ({', '.join(model.aliases)})" if model.aliases else ""
        yield f"model {model.model} version {model.version}{aliases}: trained on {model.dataset_version}"
    if not models:
        yield "models: none was trained on these"


def affected_models(settings: Settings, datasets: Sequence[Affected]) -> list[AffectedModel]:
    """Raises what the registry's client raises where MLflow can't be reached."""
    digests = {found.digest: found.version for found in datasets}
    with RegistryClient(settings.mlflow) as client:
        return [
            AffectedModel(
                model=model.name,
                version=version.version,
                aliases=tuple(alias for alias, number in model.aliases.items() if number == version.version),
                dataset_version=digests[version.tags[DATASET_DIGEST]],
            )
            for model in client.models()
            for version in client.versions(model.name)
            if version.tags.get(DATASET_DIGEST) in digests
        ]


def remove(settings: Settings, author: str) -> list[DatasetVersion]:
    """Publishes, for the newest affected version of each dataset, the next one without the author. Repeating it changes nothing.

    Raises :class:`LookupError` where no dataset credits the author.
    """
    root = dataset_root(settings)
    newest = newest_of(affected_datasets(settings, author), root)
    made = []
    for version in newest.values():
        pointed = newest_name(root) == version
        made.append(remove_author(root, version, author))
        if pointed:
            point_to(made[-1], root)
    return made
