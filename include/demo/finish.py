"""The end of the demo: report, page, what went wrong, where to look next."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from include.demo.outcome import Outcome
from include.demo.page import write_page
from include.demo.pictures import write_pictures
from include.demo.report import build_report, write_report
from include.gateway.keys import demo_keys


def finish(outcome: Outcome, console: Console) -> int:
    out = outcome.options.out.resolve()
    try:
        out.mkdir(parents=True, exist_ok=True)
        with outcome.steps.step("Write the page and the report") as step:
            pictures = write_pictures(outcome, out)
            step.note = str(out / "index.html")
        report = build_report(outcome)
        write_page(outcome, report, pictures, out)
        write_report(report, out)
    except Exception as error:
        # A page that can't be written must not hide what happened before it.
        outcome.faults.append(f"the page: {type(error).__name__}: {error}")
        report = build_report(outcome)
    _print_end(outcome, report, console)
    return 0 if outcome.ok else 1


def _print_end(outcome: Outcome, report: dict[str, object], console: Console) -> None:
    out = outcome.options.out.resolve()
    for fault in outcome.faults:
        console.print(f"[red]✗[/] {escape(fault)}", highlight=False)
    verdict = "[green]everything as it must be[/]" if outcome.ok else "[red]not as it must be[/]"
    console.print(f"\n{verdict} after {outcome.steps.total_s:.0f} s; everything stays up, `make down` ends it", highlight=False)
    console.print(f"page     {(out / 'index.html').as_uri()}\nreport   {out / 'report.json'}", highlight=False, soft_wrap=True)
    _print_logins(outcome, console)


def _print_logins(outcome: Outcome, console: Console) -> None:
    from include.platform.bring_up import print_addresses

    try:
        print_addresses(outcome.settings, console)
        keys = demo_keys(outcome.settings.home)
    except FileNotFoundError:
        console.print("no log-ins yet: the services were never up", style="dim")
        return
    for tenant, key in keys.items():
        console.print(f"API key of {tenant:<8} {key}", highlight=False)
