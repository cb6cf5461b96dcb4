"""``atelier doctor``: what can run models on this machine, what keeps the rest from it, and what was measured of models here."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table


_DEVICE = re.compile(r"cpu|cuda(:\d{1,4})?")


def doctor(
    device: Annotated[str, typer.Option(help="cpu or cuda:N.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Say which backends can run models on a device, why the others can't, and what workers measured here."""
    from include.config import settings

    if not _DEVICE.fullmatch(device):
        raise typer.BadParameter(f"--device {device[:40]!r}: use cpu or cuda:N")
    rows, measured = backend_rows(device), measured_rows(device, settings().home)
    if as_json:
        found = {"device": device, "describes": device_name(device), "backends": rows, "measured": measured}
        typer.echo(json.dumps(found, indent=2))
        return
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(f"{device}: {device_name(device)}")
    console.print(_table(rows))
    if measured:
        console.print(_measured_table(measured))
    else:
        console.print("No worker has measured a model here yet: models run on torch-eager until one has.")


def backend_rows(device: str) -> list[dict[str, Any]]:
    """Of each backend: name, whether it is usable, its version or why not, and whether ``auto`` tries it."""
    from models.backends.known import BACKENDS

    found = [(backend, backend.availability(device)) for backend in BACKENDS.values()]
    return [
        {"backend": backend.name, "usable": availability.usable, "detail": availability.detail, "auto": backend.in_auto}
        for backend, availability in found
    ]


def measured_rows(device: str, home: Path) -> list[dict[str, Any]]:
    """Of each model, size and backend that workers with this device measured on this machine: the digest's beginning, threads of the
    worker, milliseconds of a step of one image and of a batch, whether ``auto`` chose it, and why not where its images differ."""
    from include.worker.backends import machine_key
    from include.worker.verdicts import AUTO, Verdicts

    if not _is_there(device):
        return []
    rows = []
    for threads in range(1, (os.cpu_count() or 1) + 1):
        for folder in sorted((home / "backends" / machine_key(device, threads)).glob("*")):
            for verdict in Verdicts(folder).read():
                about = {"model": folder.name[:12], "threads": threads, "size": f"{verdict.width}x{verdict.height}", "batch": verdict.batch}
                rows += [
                    {
                        **about,
                        "backend": name,
                        "step_ms": _ms(found.step_s),
                        "batch_step_ms": _ms(found.batch_step_s),
                        "chosen": name == verdict.choose(AUTO),
                        "refused": found.refused,
                    }
                    for name, found in verdict.backends.items()
                ]
    return rows


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 1)


def device_name(device: str) -> str:
    """What the device is, in words."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device) if _is_there(device) else "torch sees no such GPU on this machine"
    features = [name for name in ("avx2", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8") if torch.cpu.get_capabilities().get(name)]
    capabilities = torch.cpu.get_capabilities()
    return f"{capabilities.get('cpu_name', 'CPU')}, {capabilities.get('num_physical_cores', '?')} cores, {' '.join(features)}"


def _is_there(device: str) -> bool:
    import torch

    if not device.startswith("cuda"):
        return device == "cpu"
    return torch.cuda.is_available() and torch.device(device).index in {None, *range(torch.cuda.device_count())}


def _table(rows: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table("backend", "usable", "version, or what keeps it", "tried by auto")
    for row in rows:
        table.add_row(row["backend"], "yes" if row["usable"] else "no", row["detail"], "yes" if row["auto"] else "when named")
    return table


def _measured_table(rows: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table("model", "size", "threads", "backend", "ms a step", "of a batch", "chosen, or why not")
    for row in rows:
        verdict = "auto takes it" if row["chosen"] else (row["refused"] or "slower")
        times = [f"{row[name]:g}" if row[name] is not None else "" for name in ("step_ms", "batch_step_ms")]
        table.add_row(row["model"], row["size"], str(row["threads"]), row["backend"], times[0], f"{times[1]} ({row['batch']})", verdict)
    return table
