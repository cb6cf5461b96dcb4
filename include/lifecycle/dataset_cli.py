"""``atelier dataset``: what versions there are, and the removal of an author."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from include.dataset.removal import Affected

dataset = typer.Typer(no_args_is_help=True, add_completion=False, help="List dataset versions, or take an author's images out of them.")


@dataset.command("list")
def list_versions() -> None:
    """Print each dataset version with its samples; the newest one has a star."""
    from include.config import settings
    from include.lifecycle.datasets import dataset_root, newest_name, resolve, versions

    root = dataset_root(settings())
    names = versions(root)
    newest = newest_name(root)
    for name in names:
        counts = ", ".join(f"{count} {split}" for split, count in resolve(root, name).counts.items() if count)
        typer.echo(f"{'*' if name == newest else ' '} {name}  {counts}")
    if not names:
        typer.echo("no dataset version yet; run prepare_dataset")


@dataset.command("remove-author")
def remove_author(
    name: Annotated[str, typer.Argument(help="The author as credited; of several names, one.")],
    yes: Annotated[
        bool, typer.Option("--yes", help="Publish the versions without the author; without it, only say what is affected.")
    ] = False,
) -> None:
    """Show which dataset and model versions hold an author's images and, with --yes, publish the next datasets without them."""
    from include.config import settings
    from include.lifecycle import author_removal

    try:
        affected = author_removal.affected_datasets(settings(), name)
    except LookupError as error:
        raise typer.BadParameter(str(error)) from error
    for line in author_removal.dataset_lines(affected):
        typer.echo(line)
    _say_models(affected)
    if not yes:
        typer.echo("nothing was changed; with --yes the next version of each dataset is published without them, and no later one has them")
        return
    for version in author_removal.remove(settings(), name):
        typer.echo(f"published {version.version}; train the models above again on it")


def _say_models(affected: Sequence[Affected]) -> None:
    from include.config import settings
    from include.lifecycle.author_removal import affected_models, model_lines
    from include.registry.errors import RegistryUnavailableError

    try:
        models = affected_models(settings(), affected)
    except RegistryUnavailableError as error:
        typer.echo(f"models: not known, {error}", err=True)
        return
    for line in model_lines(models):
        typer.echo(line)
