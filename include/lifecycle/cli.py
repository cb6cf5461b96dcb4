"""``atelier rollback``: the quickest way back to the version that served before."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer


def rollback(
    model: Annotated[str, typer.Argument(help="Registered model whose champion moves.")],
    to: Annotated[
        str, typer.Option("--to", metavar="VERSION", help="Version to go back to; without it, the champion before this one.")
    ] = "",
    why: Annotated[str, typer.Option(help="Reason, recorded with the move.")] = "rolled back from the command line",
) -> None:
    """Move a model's champion back to an earlier version; workers follow within seconds."""
    from include.config import settings
    from include.lifecycle import promotion
    from include.registry.errors import UnknownModelError

    try:
        move = promotion.rollback(settings(), model, to, by=getpass.getuser(), why=why)
    except (LookupError, UnknownModelError) as error:
        raise typer.BadParameter(str(error.args[0])) from error
    typer.echo(f"champion of {move.model}: version {move.previous or 'none'} → {move.version}")
