"""``atelier worker``, and ``python -m include.worker``."""

from __future__ import annotations

from typing import Annotated

import typer


def worker(
    worker_id: Annotated[str, typer.Option(help="Stable name, unique in the cell.")],
    pool: Annotated[str, typer.Option(help="Pool whose leases it renders; empty means the setting worker_pool.")] = "",
    device: Annotated[str, typer.Option(help="cpu or cuda:N.")] = "cpu",
    max_batch: Annotated[int, typer.Option(min=1, max=256, help="Requests in a micro-batch at most.")] = 4,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of a render.")] = 1,
    drain_s: Annotated[float, typer.Option(min=0, help="Seconds that a running batch may still take after SIGTERM.")] = 20.0,
) -> None:
    """Render the leases of a pool until SIGTERM."""
    from include.config import settings
    from include.worker.run import DeviceError, log_to_stderr, run_worker
    from include.worker.service import WorkerOptions

    log_to_stderr()
    options = WorkerOptions(
        pool=pool or settings().worker_pool, worker_id=worker_id, device=device, max_batch=max_batch, threads=threads, drain_s=drain_s
    )
    try:
        run_worker(settings(), options)
    except DeviceError as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from error
