"""What ``atelier why`` and ``atelier redrive`` draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from include.client.dead_letters import Action, Redrive
from include.client.why import Explanation, Step
from include.client.why_words import seconds
from include.contracts.events import State

SHOWN_LETTERS = 50
TITLE_STYLE = {
    str(State.COMPLETED): "green",
    **dict.fromkeys(map(str, (State.FAILED, State.REFUSED, State.EXPIRED)), "red"),
    **dict.fromkeys((str(State.RETRYING), str(State.CANCELLED), "Dead letter"), "yellow"),
}
ACTION_STYLE = {Action.SEND: "green", Action.NOTHING: "dim", Action.IMPOSSIBLE: "red", Action.NOT_A_REQUEST: "dim"}


def clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def headline(explanation: Explanation) -> str:
    """One line: what it is, how it went, since when."""
    if explanation.state is None:
        how = "in dead letters, without an event of its own"
    elif explanation.over:
        how = f"{explanation.state} after {seconds(explanation.took_s)}"
    else:
        how = f"not over; {explanation.state} when last heard of, after {seconds(explanation.took_s)}"
    owner = f" of {explanation.tenant}" if explanation.tenant else ""
    return f"{explanation.request_id}{owner}: {how}; came {clock(explanation.submitted_at)}"


def kinship(explanation: Explanation) -> list[str]:
    """What was redriven from what."""
    lines = [f"redriven from {explanation.redriven_from}"] if explanation.redriven_from else []
    return [*lines, f"redriven as {', '.join(explanation.redriven_as)}"] if explanation.redriven_as else lines


def steps_table(steps: Iterable[Step], *, header: bool = True) -> Table:
    """Seconds since the first step, what happened, why. Without a header it goes on below another of its kind."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=header)
    table.add_column("seconds", justify="right", no_wrap=True, width=9)
    table.add_column("step", no_wrap=True, width=11)
    table.add_column("why", overflow="fold")
    for step in steps:
        first, *more = step.lines or ("",)
        table.add_row(f"{step.at_s:.3f}", Text(step.title, TITLE_STYLE.get(step.title, "cyan")), Text(first))
        for line in more:
            table.add_row("", "", Text(line))
    return table


def letters_table(plan: Sequence[Redrive], now: float) -> Table:
    """The first letters of a plan, those that are sent first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("id", "tenant", "reason", "field", "age", "attempts"):
        table.add_column(column, no_wrap=column not in ("id", "field"), overflow="fold")
    table.add_column("what happens", overflow="fold")
    order = list(Action)
    for one in sorted(plan, key=lambda one: order.index(one.action))[:SHOWN_LETTERS]:
        letter = one.found.letter
        age = seconds(max(0.0, now - letter.at))
        cells = (letter.request_id or "-", letter.tenant or "-", letter.reason.code, letter.reason.field or "", age, str(letter.attempts))
        table.add_row(*map(escape, cells), Text(f"{one.action}: {one.note}", ACTION_STYLE[one.action]))
    return table


def counted(plan: Sequence[Redrive]) -> str:
    """How many letters of which action, and how many rows the table left out."""
    counts = Counter(one.action for one in plan)
    parts = [f"{counts[action]} {'to send' if action is Action.SEND else action}" for action in Action if counts[action]]
    left_out = f" (the table shows {SHOWN_LETTERS})" if len(plan) > SHOWN_LETTERS else ""
    return f"{len(plan)} dead {'letter' if len(plan) == 1 else 'letters'}: {', '.join(parts)}{left_out}"


def sent_words(sent: Sequence[Redrive]) -> list[str]:
    """What was sent, in sentences."""
    new = [one for one in sent if one.renamed]
    lines = [f"{len(sent)} put back, {len(sent) - len(new)} byte for byte under the id they had"]
    if new:
        lines.append(
            f"{len(new)} under a new id, because an accepted id stays with its first run; `atelier why {new[0].request_id}` follows"
        )
    return lines
