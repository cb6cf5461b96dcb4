"""``atelier policy`` and ``atelier quota``: the scheduler's policy, swapped while it runs."""

from __future__ import annotations

import getpass
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from include.client.exits import broker_or_exit


def policy(
    file: Annotated[
        Path | None, typer.Argument(help="A YAML or JSON file with the policy that is to hold; without it, the present one is shown.")
    ] = None,
) -> None:
    """Show the scheduler's policy as YAML, or put another in its place while it runs."""
    from include.client.policy import PolicyError, current_policy, dump_policy, load_policy, publish
    from include.config import settings
    from include.contracts.defaults import default_policy

    with broker_or_exit():
        if file is None:
            found = current_policy(settings()) or default_policy(lease_s=settings().lease_s, max_attempts=settings().max_attempts)
            typer.echo(f"# by {found.by or 'nobody named'}, {_when(found.at)}\n{dump_policy(found)}", nl=False)
            return
        try:
            wanted = load_policy(file, getpass.getuser())
        except PolicyError as error:
            raise typer.BadParameter(str(error)) from error
        publish(settings(), wanted)
        typer.echo("sent; it holds for every request from now on, and what waits keeps its lane")


def quota(
    tenant: Annotated[str, typer.Argument(help="Whose quota.")],
    rate: Annotated[float | None, typer.Option(help="Device seconds that its bucket gains each second.")] = None,
    burst: Annotated[float | None, typer.Option(help="Device seconds that its bucket holds at most.")] = None,
    queued: Annotated[int | None, typer.Option(help="Requests that may wait at once.")] = None,
    running: Annotated[int | None, typer.Option(help="Requests that may be with workers at once.")] = None,
    weight: Annotated[float | None, typer.Option(help="Share of a lane against the others' weights.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Back to its tier's quota.")] = False,
) -> None:
    """Show a tenant's own quota, change parts of it, or take it back."""
    from include.client.policy import publish, read_control
    from include.config import settings
    from include.contracts.control import TenantQuota

    given = {"rate": rate, "burst_s": burst, "max_queued": queued, "max_running": running, "weight": weight}
    changes = {name: value for name, value in given.items() if value is not None}
    with broker_or_exit():
        present = read_control(settings(), TenantQuota).get(f"tenant_quota:{tenant}")
        if not changes and not clear:
            typer.echo(present.quota.model_dump_json(indent=2) if present and present.quota else f"{tenant} has its tier's quota")
            return
        own = present.quota if present and not clear else None
        publish(settings(), _quota_message(tenant, own.model_dump() if own else {}, changes))
        typer.echo(f"{tenant} is back at its tier's quota" if clear else "sent")


def _quota_message(tenant: str, present: dict[str, Any], changes: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    from include.contracts.control import TenantQuota
    from include.contracts.errors import refusal_of
    from include.contracts.policy import Quota

    try:
        wanted = Quota.model_validate({**present, **changes}) if present or changes else None
        return TenantQuota(tenant=tenant, at=time.time(), by=getpass.getuser(), quota=wanted)
    except ValidationError as error:
        raise typer.BadParameter(f"{refusal_of(error).message}; a quota needs --rate, --burst, --queued and --running at first") from error


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at)) if at else "as shipped"
