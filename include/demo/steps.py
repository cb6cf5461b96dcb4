"""The demo's steps: each announced, timed, and when it fails, explained."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape


class StepFailedError(RuntimeError):
    """A step did not do what it must; the text says what, and where to look."""


@dataclass
class Step:
    name: str
    seconds: float = 0.0
    ok: bool = False
    note: str = ""  #: what came out, in a few words


@dataclass
class Steps:
    console: Console
    done: list[Step] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Raises what the body raises, after noting it."""
        step = Step(name)
        self.done.append(step)
        self.console.print(f"\n[bold]{len(self.done)}. {escape(name)}[/]", highlight=False)
        started = time.monotonic()
        try:
            yield step
            step.ok = True
        finally:
            step.seconds = time.monotonic() - started
            mark = "[green]done[/]" if step.ok else "[red]failed[/]"
            note = f"  {escape(step.note)}" if step.note else ""
            self.console.print(f"   {mark} in {step.seconds:.1f} s{note}", highlight=False)

    @property
    def total_s(self) -> float:
        return time.monotonic() - self.started
