"""``atelier send`` on a real broker; the test plays the router."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from include.client.producer import TopicProducer
from include.client.reader import Start, TopicReader
from include.config import PROJECT_ROOT, Settings
from include.contracts import topics as names
from include.contracts.errors import Reason, ReasonCode
from include.contracts.events import ImageResult, State, StatusEvent, event_id
from include.contracts.requests import GenerationRequest
from include.platform.ports import free_ports
from include.storage import open_store
from tests.support.waiting import wait_for

COMMAND = "import typer; from include.client.cli import send; typer.run(send)"


def start_send(settings: Settings, *arguments: str) -> subprocess.Popen[str]:
    variables = {
        "ATELIER_HOME": str(settings.home),
        "ATELIER_KAFKA_BOOTSTRAP": settings.bootstrap,
        "ATELIER_TOPIC_PREFIX": settings.topic_prefix,
    }
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments],
        cwd=PROJECT_ROOT,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def next_request(settings: Settings, topic: str) -> GenerationRequest:
    with TopicReader(settings, topic, Start.BEGINNING) as reader:
        record = wait_for(lambda: reader.poll(0.5), 30, "a request")
    assert record is not None and record.value is not None
    return GenerationRequest.from_json(record.value)


def answer(settings: Settings, request: GenerationRequest, state: State, **fields: object) -> None:
    event = StatusEvent(
        event_id=event_id(request.request_id, state, 0),
        request_id=request.request_id,
        tenant=request.tenant,
        state=state,
        at=time.time(),
        **fields,  # type: ignore[arg-type]
    )
    with TopicProducer(settings) as producer:
        producer.put(names.EVENTS, event.to_json())


def test_a_request_is_sent_followed_and_its_image_written(topics: Settings, tmp_path: Path) -> None:
    process = start_send(topics, "--prompt", "red apple", "--tenant", "globex", "--batch", "--steps", "4", "--out", str(tmp_path / "out"))
    request = next_request(topics, names.BATCH)
    assert (request.prompt, request.tenant, request.steps) == ("red apple", "globex", 4)
    key = f"images/globex/{request.request_id}/0.png"
    stored = open_store(topics).put_if_absent(key, b"bytes", "image/png")
    image = ImageResult(index=0, key=key, sha256=stored.sha256, size_bytes=5, width=64, height=64, seed=1, media_type="image/png")
    answer(topics, request, State.QUEUED, position=1, lane="low")
    answer(topics, request, State.COMPLETED, images=(image,), model_version="3")
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "place 1 in the low lane" in output and "version 3" in output
    assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == [b"bytes"]


def test_a_refusal_is_printed_and_fails(topics: Settings) -> None:
    process = start_send(topics, "--prompt", "red apple", "--model", "nobody")
    request = next_request(topics, names.REALTIME)
    answer(topics, request, State.REFUSED, reason=Reason(code=ReasonCode.UNKNOWN_MODEL, message="no model nobody"))
    output, _ = process.communicate(timeout=30)
    assert (process.returncode, "no model nobody" in output) == (1, True)


def test_a_bad_option_is_refused_before_anything_is_sent(topics: Settings) -> None:
    process = start_send(topics, "--prompt", "red apple", "--steps", "-1")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 2 and "steps" in errors


def test_without_a_broker_it_says_where_to_look(topics: Settings) -> None:
    process = start_send(topics.model_copy(update={"kafka_bootstrap": f"127.0.0.1:{free_ports(1)[0]}"}), "--prompt", "red apple")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 3 and "atelier status" in errors


def test_no_answer_in_time_names_the_request(topics: Settings) -> None:
    process = start_send(topics, "--prompt", "red apple", "--timeout", "1")
    request = next_request(topics, names.REALTIME)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 4 and request.request_id in errors
