"""``atelier why`` and ``atelier redrive`` on a real broker."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner

from include.client.errors import BrokerUnavailableError
from include.client.producer import TopicProducer
from include.client.scanning import TopicScan
from include.config import PROJECT_ROOT, Settings, settings
from include.contracts import topics as names
from include.contracts.dead_letters import DeadLetter, encode_original
from include.contracts.errors import Reason, ReasonCode
from include.contracts.events import Estimate, Lane, State, StatusEvent, event_id
from include.contracts.requests import GenerationRequest, ServiceClass, Tier
from include.platform.cli import app
from include.platform.environment import settings_environment
from tests.support.kafka_client import send
from tests.support.waiting import wait_for

pytestmark = pytest.mark.timeout(240)

Run = Callable[..., Result]
ORIGINAL = b'{ "tenant":"acme",\n "request_id" : "r1", "prompt":"ein rotes Herz \xe2\x99\xa5" }'
NOW = time.time()
ESTIMATE = Estimate(wait_s=2, low_s=1, high_s=4)


@pytest.fixture
def installation(topics: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """The test's topics and a home of its own, as the environment says."""
    own = topics.model_copy(update={"home": tmp_path})
    for name, value in settings_environment(own).items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    yield own
    settings.cache_clear()


@pytest.fixture
def run(installation: Settings) -> Run:
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def event(state: State, name: str = "r1", after: float = 0.0, attempt: int = 0, **fields: Any) -> str:
    common = {"tenant": "acme", "tier": Tier.PRO, "service_class": ServiceClass.REALTIME, "lane": Lane.HIGH, "at": NOW - 60 + after}
    identity = event_id(name, state, 0 if state.terminal else attempt)
    return StatusEvent(event_id=identity, request_id=name, state=state, attempt=attempt, **{**common, **fields}).to_json().decode()


def letter(code: ReasonCode = ReasonCode.OVERLOADED, **fields: Any) -> str:
    known = {"source_topic": names.REALTIME, "request_id": "r1", "tenant": "acme", "at": NOW - 30}
    known["original"] = encode_original(ORIGINAL)
    return DeadLetter(reason=Reason(code=code, message="why"), **{**known, **fields}).to_json().decode()


def on_topic(settings: Settings, topic: str) -> list[bytes | None]:
    """Every value of a topic now."""
    return [record.value for record in TopicScan(settings, topic)]


def life(settings: Settings, name: str = "r1") -> None:
    send(
        settings,
        names.EVENTS,
        event(State.QUEUED, name, position=3, estimate=ESTIMATE, trace={"predicted_gpu_s": 0.5}),
        event(State.PROCESSING, name, 2.5, 1, worker_id="worker-0", pool="standard", trace={"batch_size": 2, "shared_with": ["r0"]}),
        event(State.COMPLETED, name, 3.0, 1, waited_s=2.5),
    )


def test_a_refused_letter_goes_back_byte_for_byte_and_once(installation: Settings, run: Run) -> None:
    send(installation, names.DEAD_LETTERS, letter())
    first, second = run("redrive", "--yes"), run("redrive", "--yes")
    assert (first.exit_code, second.exit_code) == (0, 0), first.output + second.output
    assert "1 put back, 1 byte for byte" in first.stdout
    assert "sent before as r1" in second.stdout
    assert on_topic(installation, names.REALTIME) == [ORIGINAL]
    assert on_topic(installation, names.BATCH) == []
    assert run("redrive", "--yes", "--again").exit_code == 0
    assert on_topic(installation, names.REALTIME) == [ORIGINAL, ORIGINAL]


def test_a_failed_request_goes_back_under_a_new_id(installation: Settings, run: Run) -> None:
    send(installation, names.EVENTS, event(State.QUEUED), event(State.PROCESSING, "r1", 1, 1), event(State.FAILED, "r1", 2, 3))
    send(installation, names.DEAD_LETTERS, letter(ReasonCode.RENDER_FAILED, source_topic=names.BATCH, attempts=3))
    result = run("redrive", "--yes")
    assert result.exit_code == 0 and "`atelier why r1-r1` follows" in result.stdout
    (value,) = on_topic(installation, names.BATCH)
    sent = GenerationRequest.from_json(value or b"")
    assert (sent.request_id, sent.trace_id, sent.prompt) == ("r1-r1", "r1", "ein rotes Herz ♥")
    send(installation, names.EVENTS, event(State.QUEUED, "r1-r1", 50))
    assert "redriven as r1-r1" in run("why", "r1").stdout
    assert "redriven from r1" in run("why", "r1-r1").stdout


def test_another_machine_sees_in_the_events_what_went_on(installation: Settings, run: Run) -> None:
    send(installation, names.DEAD_LETTERS, letter(at=NOW - 120))
    life(installation)
    result = run("redrive", "--yes")
    assert result.exit_code == 0 and "it was sent again since and is Completed" in result.stdout
    assert on_topic(installation, names.REALTIME) == []


def test_a_dry_run_and_an_answer_of_no_send_nothing(installation: Settings, run: Run) -> None:
    send(installation, names.DEAD_LETTERS, letter())
    assert run("redrive", "--dry-run").exit_code == 0
    assert CliRunner().invoke(app, ["redrive"], input="n\n").exit_code == 1
    assert on_topic(installation, names.REALTIME) == []
    assert run("redrive", "--yes").exit_code == 0
    assert on_topic(installation, names.REALTIME) == [ORIGINAL]


def test_what_can_not_go_back_is_said_and_the_rest_goes(installation: Settings, run: Run) -> None:
    send(
        installation,
        names.DEAD_LETTERS,
        letter(),
        letter(ReasonCode.INVALID_MESSAGE, request_id=None, tenant=None, original=None),
        letter(ReasonCode.INVALID_FIELD, request_id="bad", original=encode_original(b'{"request_id": "bad"}')),
        letter(ReasonCode.INVALID_MESSAGE, request_id=None, source_topic=names.CONTROL),
        "no letter",
    )
    result = run("redrive", "--yes")
    assert result.exit_code == 1
    for words in ("it had no value", "mend it and send it: tenant", "it came from control", "1 to send, 2 can't be sent, 1 never sent"):
        assert words in " ".join(result.stdout.split())
    assert on_topic(installation, names.REALTIME) == [ORIGINAL]


def test_only_what_was_asked_for_goes_back(installation: Settings, run: Run) -> None:
    other = ORIGINAL.replace(b"r1", b"r2").replace(b"acme", b"globex")
    send(installation, names.DEAD_LETTERS, letter(), letter(request_id="r2", tenant="globex", original=encode_original(other)))
    assert run("redrive", "--yes", "--tenant", "globex", "--since", "3600", "--reason", "overloaded").exit_code == 0
    assert on_topic(installation, names.REALTIME) == [other]
    missing = run("redrive", "--yes", "--id", "R1")
    assert missing.exit_code == 1 and "no dead letter of R1" in missing.stderr
    assert run("redrive", "--yes", "--id", "r1").exit_code == 0
    assert sorted(map(bytes, on_topic(installation, names.REALTIME))) == sorted([ORIGINAL, other])


def test_why_tells_the_life_of_a_request(installation: Settings, run: Run) -> None:
    life(installation)
    life(installation)  # a restored router says it again
    send(installation, names.DEAD_LETTERS, letter(ReasonCode.DUPLICATE_ID))
    told = run("why", "r1")
    assert told.exit_code == 0, told.output
    for words in ("r1 of acme: Completed after 3.00 s", "place 3 in its lane", "within the band", "shared with the tenant's own r0"):
        assert words in told.stdout
    assert "atelier redrive --id r1 --new-id" in told.stdout
    steps = json.loads(run("why", "r1", "--json").stdout)["steps"]
    assert [step["title"] for step in steps] == ["Queued", "Dispatched", "Completed", "Dead letter"]


def test_an_unknown_id_is_told_how_far_back_it_was_looked_for(installation: Settings, run: Run) -> None:
    nothing = run("why", "order-1")
    assert nothing.exit_code == 1 and "there are no events yet" in nothing.stderr
    for name in ("Order-1", "order-17", "invoice-1"):
        life(installation, name)
    result = run("why", "order-1", "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"events go back to {time.strftime('%Y-%m-%d', time.gmtime())}" in result.stderr
    assert "Ids are case-sensitive" in result.stderr
    assert "did you mean Order-1, order-17?" in result.stderr


def test_follow_waits_for_a_request_and_ends_with_it(installation: Settings, tmp_path: Path) -> None:
    said = tmp_path / "said.txt"
    with said.open("w") as log:
        command = [sys.executable, "-m", "include.platform.cli", "why", "r1", "--follow"]
        process = subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        wait_for(lambda: "waiting for it" in said.read_text(), 30, "the command waits")
        life(installation)
        shown, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    assert [line.split()[1] for line in shown.splitlines() if line.split()[0] in ("0.000", "2.500", "3.000")] == [
        "Queued",
        "Dispatched",
        "Completed",
    ]


def test_a_hundred_thousand_events_are_searched_in_ten_seconds(installation: Settings, run: Run) -> None:
    producer = Producer({"bootstrap.servers": installation.bootstrap, "linger.ms": 20, "queue.buffering.max.messages": 200_000})
    filler = event(State.PROCESSING, "filler", 1, 1, worker_id="worker-0", trace={"batch_key": "emoji/3|32x32|4|cfg", "batch_size": 4})
    for number in range(100_000):
        producer.produce(installation.topic_prefix + names.EVENTS, filler.replace("filler", f"request-{number % 25_000:08d}"))
    assert producer.flush(60) == 0
    life(installation)
    begun = time.monotonic()
    result = run("why", "r1")
    assert result.exit_code == 0 and "Completed" in result.stdout
    took = time.monotonic() - begun
    print(f"100,003 events searched in {took:.2f} s")
    assert took < 10


def test_a_scan_reads_what_was_there_when_it_began(installation: Settings) -> None:
    with TopicProducer(installation) as producer:
        for number in range(20):
            producer.put(names.REALTIME, str(number).encode(), str(number))
        values = set()
        for record in TopicScan(installation, names.REALTIME):
            if not values:
                producer.put(names.REALTIME, b"later", "later")
            values.add(record.value)
    assert values == {str(number).encode() for number in range(20)}


def test_a_scan_of_a_topic_whose_oldest_messages_are_gone_ends(installation: Settings) -> None:
    send(installation, names.EVENTS, *map(str, range(5)))
    topic = installation.topic_prefix + names.EVENTS
    admin = AdminClient({"bootstrap.servers": installation.bootstrap})
    for up_to, left in ((3, [b"3", b"4"]), (5, [])):
        for future in admin.delete_records([TopicPartition(topic, 0, up_to)]).values():
            future.result(30)
        scan = TopicScan(installation, names.EVENTS)
        assert [record.value for record in scan] == left
        assert (scan.ends, scan.total) == ({0: 5}, len(left))


def test_the_progress_of_a_scan_ends_at_all(installation: Settings) -> None:
    send(installation, names.EVENTS, *map(str, range(50)))
    seen: list[tuple[int, int]] = []
    list(TopicScan(installation, names.EVENTS, lambda done, total: seen.append((done, total))))
    assert seen[-1] == (50, 50)


def test_the_policy_is_shown_swapped_and_shown_again(run: Run, tmp_path: Path) -> None:
    shown = run("policy")
    assert shown.exit_code == 0, shown.output
    assert "as shipped" in shown.stdout
    file = tmp_path / "policy.yaml"
    file.write_text(shown.stdout.replace("linger_s: 0.0", "linger_s: 0.5"))
    assert run("policy", str(file)).exit_code == 0
    assert "linger_s: 0.5" in run("policy").stdout


def test_a_quota_is_set_changed_in_parts_and_taken_back(run: Run) -> None:
    assert "its tier's quota" in run("quota", "acme").stdout
    assert run("quota", "acme", "--rate", "2", "--burst", "60", "--queued", "5", "--running", "1").exit_code == 0
    assert run("quota", "acme", "--weight", "3").exit_code == 0
    own = json.loads(run("quota", "acme").stdout)
    assert (own["rate"], own["max_queued"], own["weight"]) == (2.0, 5, 3.0)
    assert run("quota", "acme", "--clear").exit_code == 0
    assert "its tier's quota" in run("quota", "acme").stdout


class MovingLeader(Consumer):
    """A consumer that asks brokers whose leader moves at first."""

    asked = 0

    def get_watermark_offsets(self, *arguments: Any, **options: Any) -> Any:
        self.asked += 1
        if self.asked <= 2:
            raise KafkaException(KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION))
        return super().get_watermark_offsets(*arguments, **options)


def test_a_topic_whose_leader_moves_is_asked_again(installation: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    send(installation, names.EVENTS, "one")
    monkeypatch.setattr("include.client.scanning.Consumer", MovingLeader)
    assert on_topic(installation, names.EVENTS) == [b"one"]


def test_a_leader_that_never_comes_is_an_error(installation: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MovingLeader, "asked", -(10**9))
    monkeypatch.setattr("include.client.scanning.Consumer", MovingLeader)
    with pytest.raises(BrokerUnavailableError, match="leader"):
        list(TopicScan(installation, names.EVENTS, patience_s=0.3))


def test_what_the_topics_hold_can_be_recorded_and_simulated(run: Run, installation: Settings, tmp_path: Path) -> None:
    send(installation, names.REALTIME, ORIGINAL, b"{", ORIGINAL)
    send(installation, names.BATCH, json.dumps({"request_id": "r2", "tenant": "globex", "prompt": "a secret"}))
    file = tmp_path / "topic.jsonl"
    recorded = run("record", str(file), "--since", "3600")
    assert recorded.exit_code == 0, recorded.output
    assert "2 requests" in recorded.output and "1 repeats of an id and 1 that" in recorded.output
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["class"], line["request"]["request_id"]) for line in lines] == [("realtime", "r1"), ("batch", "r2")]
    assert "secret" not in file.read_text() and all(abs(line["at"] - time.time()) < 600 for line in lines)
    simulated = run("simulate", "--arrivals", str(file), "--policy", "ours", "--workers", "1")
    assert simulated.exit_code == 0 and "2 requests" in simulated.output
