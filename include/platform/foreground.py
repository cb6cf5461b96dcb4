"""One service of the local profile in the foreground, or one look at it: what containers run and how they are probed."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from include.config import PROJECT_ROOT, settings
from include.platform.environment import shared_environment
from include.platform.service import Service, Unhealthy
from include.platform.services import local_services

Name = Annotated[str, typer.Argument(help="A service as `atelier status` calls it.")]


def _find(name: str) -> Service:
    services = {service.name: service for service in local_services(settings())}
    if name not in services:
        raise typer.BadParameter(f"no service {name!r}; there are: {', '.join(services)}")
    return services[name]


def run(name: Name, arguments: Annotated[list[str] | None, typer.Argument(help="Passed on to the service's command.")] = None) -> None:
    """Become one service: prepare it, then replace this process by its command."""
    service = _find(name)
    if not service.is_ours:
        raise typer.BadParameter(f"{name} runs elsewhere, at {service.url}")
    service.prepare()
    command = (*service.command, *(arguments or ()))
    os.chdir(PROJECT_ROOT)
    os.execvpe(command[0], command, {**shared_environment(settings(), name), **service.env})


def check(name: Name) -> None:
    """Look at one service once; exit 1 with the reason unless it is healthy."""
    try:
        _find(name).check()
    except Unhealthy as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
