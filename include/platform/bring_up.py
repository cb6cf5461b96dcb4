"""`atelier up` with a live table, or a line for each change where there is no terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live

from include.config import Settings, settings
from include.platform.airflow import credentials
from include.platform.services import local_services
from include.platform.startup import Startup, StartupError
from include.platform.views import one_line, progress_table


def bring_up(beside: Callable[[Startup], object] = lambda _: None) -> int:
    """The command's exit code.

    :param beside: called as the start begins, with the start; must return at once
    """
    console = Console(width=None if sys.stdout.isatty() else 200)
    started = time.monotonic()
    try:
        services = local_services(settings())
        startup = Startup(settings(), services)
    except FileNotFoundError as error:
        console.print(f"[red]{error}")
        return 1
    try:
        beside(startup)
        _run_shown(startup, console)
    except (StartupError, RuntimeError) as error:
        console.print(f"[red]not everything came up:[/]\n{error}\n`atelier status` and `atelier logs NAME` tell more.", highlight=False)
        return 1
    console.print(f"all {len(services)} services are healthy after {time.monotonic() - started:.0f} s", highlight=False)
    print_addresses(settings(), console)
    return 0


def print_addresses(settings: Settings, console: Console) -> None:
    user, password = credentials(settings)
    addresses = {
        "Airflow": f"{settings.airflow}  (user {user}, password {password})",
        "MLflow": settings.mlflow,
        "Flink": settings.flink,
        "gateway": settings.gateway,
        "Kafka": settings.bootstrap,
    }
    for name, address in addresses.items():
        console.print(f"{name:<8} {address}", highlight=False, markup=False)


def _run_shown(startup: Startup, console: Console) -> None:
    if console.is_terminal:
        with Live(get_renderable=lambda: progress_table(startup.progress.values()), console=console, refresh_per_second=4):
            startup.run()
        return
    finished = threading.Event()
    reporter = threading.Thread(target=_report_changes, args=(startup, console, finished), daemon=True)
    reporter.start()
    try:
        startup.run()
    finally:
        finished.set()
        reporter.join()


def _report_changes(startup: Startup, console: Console, finished: threading.Event) -> None:
    """A log has no use for a redrawn table: one line when a service changes its phase."""
    shown: dict[str, str] = {}
    last_round = False
    while not last_round:
        last_round = finished.wait(0.2)
        for name, one in startup.progress.items():
            if one.phase != shown.get(name, "waiting"):
                shown[name] = one.phase
                reason = one_line(one.reason, 300) if one.phase == "failed" else ""
                console.print(f"{name:<22} {one.phase:<10} {one.seconds:5.1f} s  {reason}", highlight=False, markup=False)
