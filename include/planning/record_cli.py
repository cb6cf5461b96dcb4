"""``atelier record``: a recording of the topics for ``atelier simulate --arrivals``."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from include.simulation.policy import Arrival

HIDDEN = "-"  #: in the place of a prompt


def record(
    file: Annotated[Path, typer.Argument(help="Where to write it, one JSON object a line.")],
    since: Annotated[str | None, typer.Option(help="Only those since an ISO 8601 time (UTC), or of the last so many seconds.")] = None,
    prompts: Annotated[bool, typer.Option(help="Keep what people wrote; a simulation does not need it.")] = False,
) -> None:
    """Write the requests that the topics still hold to a file, in order of arrival; exit 1 if there are none."""
    from include.client.dead_letters import since_seconds
    from include.client.exits import broker_or_exit
    from include.config import settings
    from include.planning.recording import read_recording_of
    from include.simulation.arrivals import write_recording

    try:
        begin = 0.0 if since is None else since_seconds(since, time.time())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from error
    with broker_or_exit():
        found = read_recording_of(settings(), begin)
    arrivals = found.in_order()
    left_out = f"{found.repeated} repeats of an id and {found.unreadable} that the router refuses are left out"
    if not arrivals:
        typer.echo(f"the topics hold no request{'' if since is None else ' of that time'}; {left_out}", err=True)
        raise typer.Exit(1)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_recording(file, arrivals if prompts else map(_hidden, arrivals))
    typer.echo(f"{len(arrivals)} requests over {arrivals[-1].at - arrivals[0].at:.0f} s in {file}; {left_out}")
    typer.echo(f"atelier simulate --arrivals {file} --policy ours --policy fifo")


def _hidden(arrival: Arrival) -> Arrival:
    return replace(arrival, request=arrival.request.model_copy(update={"prompt": HIDDEN, "negative_prompt": ""}))
