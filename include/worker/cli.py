"""``atelier worker``, and ``python -m include.worker``."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from include.worker.edge_client import EdgeAccess


def worker(
    worker_id: Annotated[str, typer.Option(help="Stable name, unique in the cell; empty means HOSTNAME-DEVICE.")] = "",
    pool: Annotated[str, typer.Option(help="Pool whose leases it renders; empty means the setting worker_pool.")] = "",
    device: Annotated[str, typer.Option(help="cpu or cuda:N.")] = "cpu",
    max_batch: Annotated[int, typer.Option(min=1, max=256, help="Requests in a micro-batch at most.")] = 4,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of a render.")] = 1,
    backend: Annotated[str, typer.Option(help="What runs the models: auto, or a name that `atelier doctor` knows.")] = "auto",
    drain_s: Annotated[float, typer.Option(min=0, help="Seconds that a running batch may still take after SIGTERM.")] = 20.0,
    gateway: Annotated[
        str, typer.Option(help="https://host[:port] of the gateway, for a worker that reaches nothing else; empty means Kafka itself.")
    ] = "",
    credential_file: Annotated[Path | None, typer.Option(help="With --gateway: file that `atelier edge-key create` made.")] = None,
    ca_file: Annotated[Path | None, typer.Option(help="With --gateway: PEM certificates to trust instead of the system's.")] = None,
    metrics: Annotated[str, typer.Option(help="HOST:PORT that gives its figures to Prometheus at /metrics; empty means none.")] = "",
) -> None:
    """Render the leases of a pool until SIGTERM."""
    from include.config import settings
    from include.worker.acceleration import BackendOptionError
    from include.worker.edge_client import CredentialRefusedError, EdgeConfigError
    from include.worker.metrics import MetricsError
    from include.worker.run import DeviceError, TwinError, log_to_stderr, run_worker
    from include.worker.safety import SafetyConfigError
    from include.worker.service import WorkerOptions

    log_to_stderr()
    pool = pool or settings().worker_pool
    worker_id = worker_id or default_id(device)
    _check_names(worker_id=worker_id, pool=pool)
    try:
        options = WorkerOptions(
            pool=pool,
            worker_id=worker_id,
            device=device,
            max_batch=max_batch,
            threads=threads,
            backend=backend,
            drain_s=drain_s,
            metrics=metrics,
            edge=_edge_access(gateway, credential_file, ca_file),
        )
        run_worker(settings(), options)
    except (
        DeviceError,
        TwinError,
        MetricsError,
        BackendOptionError,
        SafetyConfigError,
        EdgeConfigError,
        CredentialRefusedError,
    ) as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from error


def default_id(device: str) -> str:
    """One worker a device is what a machine has most often."""
    return f"{socket.gethostname()}-{device.replace(':', '-')}"


def _check_names(**names: str) -> None:
    """Each goes into every message, whose contract would refuse it one by one."""
    from pydantic import TypeAdapter, ValidationError

    from include.contracts.base import Identifier, Name

    for option, value in names.items():
        try:
            TypeAdapter(Name if option == "pool" else Identifier).validate_python(value)
        except ValidationError as error:
            fix = "use letters, digits, '.', '_' and '-', a letter or digit first"
            raise typer.BadParameter(f"--{option.replace('_', '-')} {value[:80]!r}: {fix}") from error


def _edge_access(gateway: str, credential_file: Path | None, ca_file: Path | None) -> EdgeAccess | None:
    from include.worker.edge_client import EdgeAccess, EdgeConfigError

    if gateway:
        return EdgeAccess.of(gateway, credential_file, ca_file)
    if credential_file is not None or ca_file is not None:
        raise EdgeConfigError("--credential-file and --ca-file go with --gateway https://host[:port]")
    return None
