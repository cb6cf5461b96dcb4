"""``atelier edge-key``: credentials of workers that reach only the gateway."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Make, list and take back credentials of edge workers.")

DAY_S = 24 * 3600

Workers = Annotated[str, typer.Argument(help="A worker id, or the beginning of several with * behind it, such as 'paris-*'.")]


@app.command()
def create(
    workers: Workers,
    pool: Annotated[str, typer.Option(help="The pool whose leases they may render.")] = "edge",
    days: Annotated[float | None, typer.Option(min=0, help="Days for which it is good; without it, until it is taken back.")] = None,
    out: Annotated[Path | None, typer.Option(help="New file for the credential, readable by its owner alone; without it, printed.")] = None,
) -> None:
    """Make a credential. It is shown this once: the gateway keeps its digest only."""
    from pydantic import ValidationError

    from include.config import settings
    from include.contracts.errors import refusal_of
    from include.gateway.edge.keys import EdgeCaller, create_edge_key

    try:
        caller = EdgeCaller(workers=workers, pool=pool, expires_at=None if days is None else time.time() + days * DAY_S)
    except ValidationError as error:
        raise typer.BadParameter(refusal_of(error).message) from error
    if out is None:
        typer.echo(create_edge_key(settings().home, caller))
        return
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise typer.BadParameter(f"--out {out}: {error.strerror}") from error
    with os.fdopen(descriptor, "w") as file:
        file.write(create_edge_key(settings().home, caller) + "\n")
    typer.echo(f"wrote {out}")


@app.command("list")
def list_keys() -> None:
    """Show who holds credentials; the credentials themselves are not known here."""
    from include.config import settings
    from include.gateway.edge.keys import stored_edge_keys

    for key in stored_edge_keys(settings().home):
        until = "" if key.expires_at is None else time.strftime(" until %Y-%m-%d %H:%M UTC", time.gmtime(key.expires_at))
        typer.echo(f"{key.workers} of pool {key.pool}{until}, sha256 {key.sha256[:12]}")


@app.command()
def revoke(workers: Workers) -> None:
    """Take back every credential that was made for exactly these workers; it counts from the gateway's next call on."""
    from include.config import settings
    from include.gateway.edge.keys import revoke_edge_keys

    count = revoke_edge_keys(settings().home, workers)
    typer.echo(f"{count} credentials taken back")
    raise typer.Exit(0 if count else 1)
