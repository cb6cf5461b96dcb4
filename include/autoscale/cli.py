"""``atelier autoscale``: the controller as a program."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from concurrent.futures import Future

    from include.autoscale.controller import Controller
    from include.client.producer import Delivery, TopicProducer
    from include.contracts.events import ScaleEvent

EXIT_KEPT, EXIT_USAGE = 1, 2

log = logging.getLogger(__name__)


def autoscale(
    rules: Annotated[Path, typer.Option(help="A YAML file with the pools' limits; read again when it changes.")] = Path("autoscale.yaml"),
    once: Annotated[
        bool, typer.Option("--once", help="Decide once, show a table, and end; exit 1 if demand or a pool could not be seen.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Decide and tell, and change nothing.")] = False,
) -> None:
    """Size the pools of workers by what waits for them, what arrives and what is in use, until SIGTERM."""
    from include.autoscale.controller import Controller, Outlets
    from include.autoscale.drivers.open import open_driver
    from include.autoscale.feed import Feed
    from include.autoscale.rules import RulesError, RulesFile
    from include.client.producer import TopicProducer
    from include.config import settings

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        file = RulesFile(rules)
    except RulesError as error:
        typer.echo(error, err=True)
        raise typer.Exit(EXIT_USAGE) from error
    with TopicProducer(settings(), delivery_timeout_s=10.0) as producer, closing(Feed(settings(), file.rules.history_s)) as feed:
        controller = Controller(
            cell=settings().cell,
            rules=file,
            demands=feed,
            open_driver=partial(open_driver, settings()),
            outlets=Outlets(say=partial(_say, err=once), publish=partial(_publish, producer)),
            dry_run=dry_run,
        )
        if once:
            _show_once(controller, len(file.rules.pools))
        else:
            _run(controller)


def _show_once(controller: Controller, pools: int) -> None:
    from rich.console import Console

    from include.autoscale.views import decisions_table

    decisions = controller.turn()
    if decisions:
        Console(width=None if sys.stdout.isatty() else 160).print(decisions_table(decisions))
    if len(decisions) < pools:
        raise typer.Exit(EXIT_KEPT)


def _run(controller: Controller) -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    controller.run(stop)


def _say(line: dict[str, Any], *, err: bool) -> None:
    typer.echo(json.dumps(line), err=err)


def _publish(producer: TopicProducer, event: ScaleEvent) -> None:
    from include.contracts import topics

    def delivered(future: Future[Delivery]) -> None:
        if (error := future.exception()) is not None:
            log.error("the decision about pool %s is not on the topic: %s", event.pool, error)

    producer.post(topics.EVENTS, event.to_json(), event.pool).add_done_callback(delivered)
