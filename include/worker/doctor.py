"""``atelier doctor``: what can run models on this machine, and what keeps the rest from it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table


def doctor(
    device: Annotated[str, typer.Option(help="cpu or cuda:N.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Say which backends can run models on a device, and why the others can't."""
    rows = backend_rows(device)
    if as_json:
        typer.echo(json.dumps({"device": device, "describes": device_name(device), "backends": rows}, indent=2))
        return
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(f"{device}: {device_name(device)}")
    console.print(_table(rows))


def backend_rows(device: str) -> list[dict[str, Any]]:
    """Of each backend: name, whether it is usable, its version or why not, and whether ``auto`` tries it."""
    from models.backends.known import BACKENDS

    found = [(backend, backend.availability(device)) for backend in BACKENDS.values()]
    return [
        {"backend": backend.name, "usable": availability.usable, "detail": availability.detail, "auto": backend.in_auto}
        for backend, availability in found
    ]


def device_name(device: str) -> str:
    """What the device is, in words."""
    import torch

    if device.startswith("cuda"):
        there = torch.cuda.is_available() and torch.device(device).index in {None, *range(torch.cuda.device_count())}
        return torch.cuda.get_device_name(device) if there else "torch sees no such GPU on this machine"
    features = [name for name in ("avx2", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8") if torch.cpu.get_capabilities().get(name)]
    capabilities = torch.cpu.get_capabilities()
    return f"{capabilities.get('cpu_name', 'CPU')}, {capabilities.get('num_physical_cores', '?')} cores, {' '.join(features)}"


def _table(rows: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table("backend", "usable", "version, or what keeps it", "tried by auto")
    for row in rows:
        table.add_row(row["backend"], "yes" if row["usable"] else "no", row["detail"], "yes" if row["auto"] else "when named")
    return table
