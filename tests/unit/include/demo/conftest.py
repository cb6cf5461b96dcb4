from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from rich.console import Console

from include.config import Settings
from include.contracts.dead_letters import DeadLetter, encode_original
from include.contracts.errors import Reason
from include.contracts.events import ImageResult, Lane, State, StatusEvent, Usage, event_id
from include.contracts.objects import MEDIA_TYPES, image_key
from include.contracts.requests import ImageFormat, ServiceClass
from include.demo.airflow_runs import FinishedRun
from include.demo.approval import Approval
from include.demo.burst import Burst
from include.demo.judging import judge_all
from include.demo.lifecycle import Promotion, Version
from include.demo.observer import Seen
from include.demo.options import DemoOptions
from include.demo.outcome import Outcome
from include.demo.planned import Planned, Way
from include.demo.rollback import PROMPTS, Rollback, Shot, Trial
from include.demo.sending import Outbox, Reply
from include.demo.steps import Step, Steps
from include.demo.traffic import Traffic, plan_traffic
from include.storage import ObjectStore, open_store
from tests.unit.include.demo.rehearsal import Rehearsal

RUN = "test"
LANES = {ServiceClass.REALTIME: Lane.HIGH, ServiceClass.BATCH: Lane.LOW}


def picture(number: int, version: str = "1") -> Image.Image:
    colours = ["#e4572e", "#17bebb", "#ffc914", "#76b041", "#5b5f97", "#d81159"]
    image = Image.new("RGB", (64, 64), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((8, 8, 56, 56), fill=colours[(number + int(version)) % 6], outline="#333333", width=2)
    draw.rectangle((24, 20 + number % 16, 40, 36), fill=colours[(number * 5 + 2) % 6])
    return image


def store_image(store: ObjectStore, tenant: str, request_id: str, index: int, image_format: ImageFormat, image: Image.Image) -> ImageResult:
    buffer = io.BytesIO()
    image.save(buffer, image_format.upper())
    key, media_type = image_key(tenant, request_id, index, image_format), MEDIA_TYPES[image_format]
    stored = store.put_if_absent(key, buffer.getvalue(), media_type)
    return ImageResult(
        index=index, key=key, sha256=stored.sha256, size_bytes=stored.size, width=64, height=64, seed=1, media_type=media_type
    )


def event_of(planned: Planned, state: State, **fields: Any) -> StatusEvent:
    assert planned.request_id is not None
    return StatusEvent(
        event_id=event_id(planned.request_id, state, 1),
        request_id=planned.request_id,
        tenant=planned.tenant,
        state=state,
        **{"at": 1000.0, **fields},
    )


def completed(planned: Planned, store: ObjectStore, number: int = 0, version: str = "1", **fields: Any) -> StatusEvent:
    assert planned.request_id is not None
    image_format = ImageFormat(planned.fields.get("image_format", "png"))
    images = tuple(
        store_image(store, planned.tenant, planned.request_id, index, image_format, picture(number + index, version))
        for index in range(planned.fields.get("images", 1))
    )
    usage = Usage(gpu_seconds=0.4, render_s=0.31 + number % 7 * 0.04, steps=12)
    waited = {
        "lane": LANES[planned.service_class],
        "waited_s": 0.2 + number * 0.11 * (3 if planned.service_class is ServiceClass.BATCH else 1),
    }
    common = {"images": images, "usage": usage, "model": "emoji", "model_version": version, "worker_id": f"worker-{number % 2}"}
    return event_of(planned, State.COMPLETED, **{**waited, **common, **fields})


def dead_letter(planned: Planned) -> DeadLetter:
    assert planned.expected is not None
    reason = Reason(code=planned.expected, message=f"{planned.label} is not taken; send something else", field="prompt")
    return DeadLetter(source_topic=f"requests.{planned.service_class}", at=1000.0, reason=reason, original=encode_original(planned.value))


def perfect_seen(plan: list[Planned], store: ObjectStore) -> tuple[Seen, Outbox]:
    """Everything as it must be."""
    seen, outbox = Seen(), Outbox()
    for number, planned in enumerate(plan):
        if planned.good:
            seen.events[planned.request_id or ""].append(completed(planned, store, number))
            continue
        if planned.way is Way.GATEWAY and "steps" in planned.label:
            outbox.replies[number] = Reply(status=422, code="invalid_field", message="steps: too small")
            continue
        seen.dead_letters.append(dead_letter(planned))
        if planned.request_id:
            reason = Reason(code=planned.expected, message=planned.label)  # type: ignore[arg-type]
            seen.events[planned.request_id].append(event_of(planned, State.REFUSED, reason=reason))
    return seen, outbox


@pytest.fixture(scope="session")
def burst() -> Burst:
    """The planned burst as the scheduler takes it; its images are not stored anywhere."""
    return Rehearsal().run()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, home=tmp_path / "home")


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return open_store(settings)


@pytest.fixture
def plan() -> list[Planned]:
    return plan_traffic(DemoOptions(out=Path("demo"), run=RUN), "sticker")


def rollback_of(store: ObjectStore, start: float = 1000.0) -> Rollback:
    versions = ["1"] * 14 + ["2"] * 9 + ["1"] * 8
    shots = []
    for number, version in enumerate(versions):
        request_id, prompt = f"{RUN}-live-{number:04}", PROMPTS[number % 4]
        image = store_image(store, "hooli", request_id, 0, ImageFormat.PNG, picture(number % 4, version))
        sent = start + number * 0.6
        event = StatusEvent(
            event_id=request_id,
            request_id=request_id,
            tenant="hooli",
            state=State.COMPLETED,
            at=sent + 0.5 + number % 5 * 0.1,
            images=(image,),
            model_version=version,
        )
        shots.append(Shot(request_id, prompt, sent, event))
    trial = Trial(share=0.5, began_at=start + 4.0, ended_at=start + 8.2)
    return Rollback(first="1", second="2", promoted_at=start + 8.2, moved_at=start + 13.9, seconds=1.42, shots=shots, trial=trial)


def version_of(number: str, grid: Path) -> Version:
    picture(int(number)).resize((256, 128)).save(grid)
    metrics = {"held_out_loss": 0.1234, "kernel_distance": 0.02, "own_image_top5": 0.7, "seconds_per_image": 0.11, "size_mb": 15.2}
    result = {"metrics": metrics, "grid": str(grid), "version": number}
    training = FinishedRun(dag_id="train_model", run_id=f"demo-{RUN}-{number}", seconds=74.0, result={"version": number})
    evaluation = FinishedRun(dag_id="evaluate_model", run_id=f"demo-{RUN}-{number}", seconds=31.0, result=result)
    return Version(version=number, training=training, evaluation=evaluation)


def promotion_of(version: str, previous: str | None, verdict: str) -> Promotion:
    run = FinishedRun(dag_id="promote_model", run_id=f"demo-{version}", seconds=31.0, result={"version": version, "previous": previous})
    given = Approval(task_id="approve", url="http://127.0.0.1:8080/approve", asked_s=12.3, given_at=1000.0)
    return Promotion(run=run, approvals=(given,), verdict=verdict)


def sweep_of(report: Path) -> FinishedRun:
    report.write_text("<h1>Variants</h1>")
    figures = {"network_mb": 30.5, "memory_mb": 900.0, "p50_s": 0.21, "p95_s": 0.25}
    rows = [
        {"variant": "fp32", "what": "the version", "status": "original", "verdict": "the original", "figures": figures},
        {"variant": "int4", "what": "int4 weights", "status": "not available", "verdict": "not available: no GPU", "figures": None},
    ]
    result = {"version": "1", "best": None, "offered": [], "table": rows, "report": str(report)}
    return FinishedRun(dag_id="compress_model", run_id=f"demo-{RUN}-1", seconds=52.0, result=result)


@pytest.fixture
def outcome(settings: Settings, store: ObjectStore, plan: list[Planned], tmp_path: Path) -> Outcome:
    """A demo in which all went well."""
    seen, outbox = perfect_seen(plan, store)
    steps = Steps(Console(quiet=True), started=time.monotonic() - 331)
    named = {"Check the machine, start every service": 71.2, "Train a model (Airflow: train_model)": 88.0, "Send 60 requests": 21.3}
    steps.done += [Step(name, seconds, True, "a note of what came out") for name, seconds in named.items()]
    verdicts = judge_all(plan, outbox, seen, store)
    return Outcome(
        settings=settings,
        options=DemoOptions(out=tmp_path / "demo", run=RUN),
        steps=steps,
        versions=[version_of(number, tmp_path / f"grid-{number}.png") for number in ("1", "2")],
        sweep=sweep_of(tmp_path / "variants.html"),
        promotions=[promotion_of("1", None, "no canary"), promotion_of("2", "1", "no more failures than the champion")],
        traffic=Traffic(verdicts=verdicts, outbox=outbox, seconds=21.3),
        rollback=rollback_of(store),
    )
