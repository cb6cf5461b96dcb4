"""``atelier send``: one request from the shell, followed to its end."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from include.client.exits import broker_or_exit
from include.contracts.events import ImageResult, State, StatusEvent
from include.contracts.requests import GenerationRequest, ServiceClass, Tier

EXIT_REFUSED, EXIT_TIMEOUT = 1, 4


def send(
    prompt: Annotated[str, typer.Option(help="What the image shows.")],
    tenant: Annotated[str, typer.Option(help="Who asks.")] = "acme",
    tier: Annotated[Tier, typer.Option(help="What the tenant pays for.")] = Tier.PRO,
    batch: Annotated[bool, typer.Option("--batch", help="Send it to the batch topic: it may wait.")] = False,
    model: Annotated[str | None, typer.Option(help="Registered model; without it, the installation's default.")] = None,
    scenario: Annotated[str | None, typer.Option(help="A named set of defaults.")] = None,
    images: Annotated[int, typer.Option(help="How many images.")] = 1,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the first image.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the images into this directory.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the end.")] = 120.0,
) -> None:
    """Send a request to Kafka, print its states as they come, and where its images are."""
    fields = {"model": model, "scenario": scenario, "images": images, "steps": steps, "seed": seed}
    request = _request(
        {"prompt": prompt, "tenant": tenant, "tier": tier, **{name: value for name, value in fields.items() if value is not None}}
    )
    end = _send_and_follow(request, ServiceClass.BATCH if batch else ServiceClass.REALTIME, timeout)
    if end.state is not State.COMPLETED:
        raise typer.Exit(EXIT_REFUSED)
    _show_images(end.images, out)


def _request(fields: dict[str, Any]) -> GenerationRequest:
    from pydantic import ValidationError

    from include.contracts.errors import refusal_of

    try:
        return GenerationRequest(request_id=f"cli-{uuid.uuid4().hex[:16]}", created_at=time.time(), **fields)
    except ValidationError as error:
        raise typer.BadParameter(refusal_of(error).message) from error


def _send_and_follow(request: GenerationRequest, service_class: ServiceClass, timeout_s: float) -> StatusEvent:
    from include.client.producer import RequestProducer
    from include.client.reader import EventReader
    from include.config import settings

    try:
        with broker_or_exit(), EventReader(settings()) as reader, RequestProducer(settings()) as producer:
            delivery = producer.send(request, service_class)
            typer.echo(f"{request.request_id} sent to {delivery.topic}")
            return reader.wait_for_terminal([request.request_id], timeout_s, _printer())[request.request_id]
    except TimeoutError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_TIMEOUT) from error


def _printer() -> Callable[[StatusEvent], None]:
    started = time.monotonic()
    return lambda event: typer.echo(f"{time.monotonic() - started:6.2f} s  {describe(event)}")


def describe(event: StatusEvent) -> str:
    """One line about a state change."""
    parts = [str(event.state)]
    if event.state is State.QUEUED and event.position is not None:
        parts.append(f"place {event.position} in the {event.lane} lane")
    if event.progress is not None:
        parts.append(f"step {event.progress.step} of {event.progress.steps}")
    if event.worker_id is not None and not event.state.terminal:
        parts.append(f"on {event.worker_id}")
    if event.model_version is not None:
        parts.append(f"{event.model or 'model'} version {event.model_version}")
    if event.reason is not None:
        parts.append(f"{event.reason.code}: {event.reason.message}")
    return "  ".join(parts)


def _show_images(images: tuple[ImageResult, ...], out: Path | None) -> None:
    from include.config import settings
    from include.storage import open_store

    store = open_store(settings())
    for image in images:
        typer.echo(f"image {image.index}: {store.url(image.key)}")
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            path = out / image.key.removeprefix("images/").replace("/", "-")
            path.write_bytes(store.get(image.key))
            typer.echo(f"  written to {path}")
