"""How a command ends where the broker is away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

EXIT_NO_BROKER = 3


@contextmanager
def broker_or_exit() -> Iterator[None]:
    """A line that says what is wrong, and exit code 3, instead of a traceback."""
    from include.client.errors import BrokerUnavailableError, DeliveryError

    try:
        yield
    except (BrokerUnavailableError, DeliveryError) as error:
        typer.echo(f"{error}; is Atelier up? `atelier status` tells", err=True)
        raise typer.Exit(EXIT_NO_BROKER) from error
