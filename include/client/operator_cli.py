"""``atelier why`` and ``atelier redrive``: what operators ask the topics."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from include.client.exits import broker_or_exit
from include.contracts.errors import ReasonCode

if TYPE_CHECKING:
    from rich.console import Console

    from include.client.dead_letters import Redrive, Selection
    from include.client.redriven import RedriveLog
    from include.client.why import History

EXIT_MISSING, EXIT_USAGE = 1, 2
SILENT_S = 1.0  #: what takes longer shows how far it is
LINE_EVERY_S = 5.0
WIDTH = 160  #: of a table that goes into a file or a pipe


def why(
    request_id: Annotated[str, typer.Argument(help="The request's id, exactly as it was sent.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the request is over; wait for one not seen yet.")] = False,
) -> None:
    """Tell what was decided about a request and why, step by step, from its events; exit 1 if there are none."""
    from include.client.why import read_history
    from include.config import settings

    with broker_or_exit(), _progress("events") as progress:
        history = read_history(settings(), request_id, progress)
    if not history and not follow:
        _say_unknown(history)
        raise typer.Exit(EXIT_MISSING)
    if not as_json:
        _show(history)
    if follow:
        with broker_or_exit():
            _follow(history, quiet=as_json)
    if as_json:
        from include.client.why import to_dict

        typer.echo(json.dumps(to_dict(history.explain()), indent=2))


def redrive(
    ids: Annotated[list[str] | None, typer.Option("--id", help="Only this request; may be given more than once.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    reason: Annotated[ReasonCode | None, typer.Option(help="Only those with this reason.")] = None,
    source: Annotated[str | None, typer.Option(help="Only those from requests.realtime or requests.batch.")] = None,
    since: Annotated[str | None, typer.Option(help="Only those since an ISO 8601 time (UTC), or of the last so many seconds.")] = None,
    new_id: Annotated[bool, typer.Option("--new-id", help="Give each a new id, ID-r1 and so on, even where the old one is free.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also those that were sent before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
) -> None:
    """Put dead letters back on the topic they came from, each once; exit 1 if some could not be."""
    from include.client.redriven import RedriveBusyError, RedriveLog
    from include.config import settings

    selection = _selection(ids, tenant, reason, source, since)
    log = RedriveLog(settings())
    try:
        with nullcontext() if dry_run else log, broker_or_exit():
            plan = _plan(selection, log, new_ids=new_id, again=again)
            whole = _show_plan(plan, selection)
            if not dry_run:
                whole &= _carry_out(plan, log, yes)
    except RedriveBusyError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_MISSING) from error
    raise typer.Exit(0 if whole else EXIT_MISSING)


def _show(history: History) -> None:
    from include.client.operator_views import headline, kinship, steps_table

    if not history:
        typer.echo(f"nothing about {history.request_id} yet; waiting for it", err=True)
        return
    explanation, console = history.explain(), _console()
    console.print(headline(explanation), markup=False, highlight=False, soft_wrap=True)
    for line in kinship(explanation):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(steps_table(explanation.steps))


def _say_unknown(history: History) -> None:
    from include.client.operator_views import clock
    from include.client.why import near_ids

    reach = f"events go back to {clock(history.oldest_at)}" if history.oldest_at is not None else "there are no events yet"
    typer.echo(f"no event and no dead letter of request {history.request_id!r}; {reach}. Ids are case-sensitive", err=True)
    near = near_ids(history.request_id, history.near)
    if near:
        typer.echo(f"did you mean {', '.join(near)}?", err=True)


def _follow(history: History, *, quiet: bool) -> None:
    """Until the request is over; each further step is printed as it comes."""
    from include.client.operator_views import steps_table
    from include.client.reader import TopicReader
    from include.client.why import explain
    from include.config import settings
    from include.contracts import topics

    console = _console()
    with TopicReader(settings(), topics.EVENTS, offsets=lambda cluster_id: history.next_offsets) as reader:
        while not history.over:
            record = reader.poll(0.5)
            if record is not None and history.take_event(record) and not quiet:
                console.print(steps_table(explain(history.events).steps[-1:], header=len(history.events) == 1))


def _selection(ids: list[str] | None, tenant: str | None, reason: ReasonCode | None, source: str | None, since: str | None) -> Selection:
    from include.client.dead_letters import REQUEST_TOPICS, Selection, since_seconds

    if source is not None and source not in REQUEST_TOPICS:
        raise typer.BadParameter(f"{source!r} is none of {', '.join(sorted(REQUEST_TOPICS))}", param_hint="--source")
    try:
        at = None if since is None else since_seconds(since)
    except ValueError as error:
        raise typer.BadParameter(f"{since!r} is neither a number of seconds nor an ISO 8601 time", param_hint="--since") from error
    return Selection(ids=frozenset(ids or ()), tenant=tenant, reason=reason, source=source, since=at)


def _plan(selection: Selection, log: RedriveLog, *, new_ids: bool, again: bool) -> list[Redrive]:
    from include.client.dead_letters import Planner, read_letters, read_uses
    from include.config import settings

    with _progress("dead letters") as progress:
        letters = read_letters(settings(), selection, progress)
    if letters.unreadable:
        typer.echo(f"{letters.unreadable} messages of dead-letters are not dead letters of this release and are left alone", err=True)
    found = letters.all()
    with _progress("events") as progress:
        uses = read_uses(settings(), {one.letter.request_id for one in found if one.letter.request_id}, progress)
    return Planner(uses, log.sent(), now=time.time(), new_ids=new_ids, again=again).plan(found)


def _show_plan(plan: list[Redrive], selection: Selection) -> bool:
    """Whether everything that was asked for is there and can be sent, or needs not be."""
    from include.client.dead_letters import Action
    from include.client.operator_views import counted, letters_table

    missing = sorted(selection.ids - {one.found.letter.request_id for one in plan})
    if missing:
        typer.echo(f"no dead letter of {', '.join(missing)}; ids are case-sensitive", err=True)
    if not plan:
        typer.echo("no dead letter matches: nothing to do")
        return not missing
    _console().print(letters_table(plan, time.time()))
    typer.echo(counted(plan))
    return not missing and all(one.action is not Action.IMPOSSIBLE for one in plan)


def _carry_out(plan: list[Redrive], log: RedriveLog, yes: bool) -> bool:
    """Whether all that could be sent was."""
    from include.client.dead_letters import Action
    from include.client.operator_views import sent_words
    from include.client.producer import TopicProducer
    from include.client.redriven import send
    from include.config import settings

    wanted = [one for one in plan if one.action is Action.SEND]
    if not wanted:
        return True
    if not yes:
        typer.confirm(f"put {len(wanted)} back?", abort=True)
    with TopicProducer(settings()) as producer:
        outcome = send(wanted, producer, log)
    for line in sent_words(outcome.sent):
        typer.echo(line)
    for one, said in outcome.failed:
        typer.echo(f"{one.request_id} was not sent: {said}", err=True)
    return not outcome.failed


class _Bar:
    """How far a reading is, on standard error: a bar, or a line now and then where nobody watches. Nothing in the first second."""

    def __init__(self, what: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._what = what
        self._console = Console(stderr=True)
        columns = (TextColumn("reading {task.description}"), BarColumn(), MofNCompleteColumn())
        self._bar = Progress(*columns, console=self._console, transient=True)
        self._task = self._bar.add_task(what, total=None)
        self._due = time.monotonic() + SILENT_S

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now < self._due:
            return
        if self._console.is_terminal:
            self._bar.start()
            self._bar.update(self._task, completed=done, total=total)
        else:
            self._due = now + LINE_EVERY_S
            typer.echo(f"reading {self._what}: {done} of {total}", err=True)

    def stop(self) -> None:
        self._bar.stop()


@contextmanager
def _progress(what: str) -> Iterator[_Bar]:
    bar = _Bar(what)
    try:
        yield bar
    finally:
        bar.stop()


def _console() -> Console:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDTH)
