"""The ``atelier`` command. Each command imports what it needs when it runs; one that another room provides is a line in LAZY."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated

import typer

from include.platform.lazy import LazyGroup

#: name → (where it is, what `atelier --help` says of it)
LAZY = {
    "send": ("include.client.cli:send", "Send a request to Kafka, print its states as they come, and where its images are."),
    "why": ("include.client.operator_cli:why", "Tell what was decided about a request and why, step by step."),
    "simulate": ("include.planning.cli:simulate", "Try a scheduling policy on made-up or recorded traffic."),
    "record": ("include.planning.record_cli:record", "Write the requests that the topics hold to a file that simulate replays."),
    "policy": ("include.client.policy_cli:policy", "Show the scheduler's policy, or put another in its place while it runs."),
    "quota": ("include.client.policy_cli:quota", "Show or change what one tenant may use."),
    "redrive": ("include.client.operator_cli:redrive", "Put dead letters back on the topic they came from, each once."),
    "dataset": ("include.lifecycle.dataset_cli:dataset", "List dataset versions, or take an author's images out of them."),
    "rollback": ("include.lifecycle.cli:rollback", "Move a model's champion back to the version that served before."),
    "autoscale": ("include.autoscale.cli:autoscale", "Size the pools of workers by what waits for them."),
    "edge-key": ("include.gateway.edge.cli:app", "Make, list and take back credentials of edge workers."),
    "worker": ("include.worker.cli:worker", "Run a worker."),
    "doctor": ("include.worker.doctor:doctor", "Say which backends can run models here, and why the others can't."),
    "run": ("include.platform.foreground:run", "Become one service of the local profile, as a container does."),
    "check": ("include.platform.foreground:check", "Look at one service once; exit 1 with the reason unless it is healthy."),
    "demo": ("include.demo.run:main", "Run the whole lifecycle and write demo/index.html and demo/report.json."),
}


class Group(LazyGroup):
    lazy = LAZY


app = typer.Typer(
    cls=Group, no_args_is_help=True, add_completion=False, help="Run Atelier on this machine.", pretty_exceptions_enable=False
)


@app.command()
def preflight() -> None:
    """Check Python, JDK, Maven and the ports; one line for each thing that is missing."""
    from include.platform.preflight import main as check

    raise typer.Exit(check(["--ports"]))


@app.command()
def up() -> None:
    """Start whatever is not running and wait until each service is healthy."""
    from include.platform.preflight import main as check

    if check(["--ports"]):
        raise typer.Exit(1)
    from include.platform.bring_up import bring_up

    raise typer.Exit(bring_up())


@app.command()
def down() -> None:
    """Stop every service and leave no process behind; the state stays."""
    from include.config import settings
    from include.platform.startup import stop_all

    stop_all(settings(), lambda line: typer.echo(line) if line else None)
    typer.echo(f"stopped; the state stays in {settings().home}")


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False) -> None:
    """Show each service with its state, address, pid, uptime and last log line; exit 1 unless all are healthy."""
    from include.config import settings
    from include.platform.service import State
    from include.platform.services import local_services
    from include.platform.status import status as ask

    rows = ask(settings(), local_services(settings()))
    if as_json:
        typer.echo(json.dumps([row.to_dict() for row in rows], indent=2))
    else:
        from rich.console import Console
        from rich.markup import escape

        from include.platform.views import status_table

        console = Console(width=None if sys.stdout.isatty() else 160)
        console.print(status_table(rows, console.width))
        for row in rows:
            for note in row.notes:
                console.print(f"[yellow]{row.name}:[/] {escape(note)}", highlight=False, soft_wrap=True)
    raise typer.Exit(0 if all(row.state is State.HEALTHY for row in rows) else 1)


@app.command()
def logs(
    name: Annotated[str, typer.Argument(help="A service as `atelier status` calls it.")],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as the log grows.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many lines from the end.")] = 50,
) -> None:
    """Show the end of a service's log."""
    from include.config import settings
    from include.platform.supervisor import log_path

    path = log_path(settings(), name)
    if not path.is_file():
        known = sorted(found.stem for found in path.parent.glob("*.log"))
        typer.echo(f"no log of {name!r}; there are: {', '.join(known) or 'none yet, run `atelier up`'}", err=True)
        raise typer.Exit(2)
    sys.stdout.flush()
    os.execvp("tail", ["tail", "-n", str(lines), *(["-F"] if follow else []), str(path)])


def main() -> None:
    app()


if __name__ == "__main__":
    main()
