from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from include.contracts.requests import ServiceClass, Tier
from include.simulation.arrivals import RecordingError, bursts, poisson, read_recording, write_recording
from include.simulation.scenario import START, mixed
from tests.unit.include.simulation.builders import arrival

SECONDS = 600.0


def test_the_same_seed_gives_the_same_arrivals_and_another_seed_others():
    first, again, other = (list(poisson(mixed(), 1.0, 60.0, seed)) for seed in (3, 3, 4))
    assert first == again
    assert [one.at for one in first] != [one.at for one in other]


def test_poisson_arrivals_come_at_the_rate_and_with_the_spread_of_a_poisson_process():
    scenario = mixed()
    times = np.array([one.at for one in poisson(scenario, 1.0, SECONDS, 1)]) - START
    rate = sum(scenario.rates(1.0).values())
    assert len(times) == pytest.approx(rate * SECONDS, abs=4 * (rate * SECONDS) ** 0.5)
    gaps = np.diff(times)
    assert gaps.min() > 0
    # Exponential gaps: as long as they deviate, and as many above their mean as e allows.
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.06)
    assert np.mean(gaps > gaps.mean()) == pytest.approx(np.exp(-1), abs=0.02)


def test_each_tenant_gets_its_demand_of_device_seconds():
    scenario, times = mixed(), mixed().service_times(0)
    by_kind = {(kind.model, kind.side, kind.steps): scenario.cost_s(kind, times) for tenant in scenario.tenants for kind in tenant.kinds}
    asked: Counter[str] = Counter()
    for one in poisson(scenario, 2.0, 3000.0, 1):
        request = one.request
        asked[request.tenant] += by_kind[request.model, request.width, request.steps]
    for tenant in scenario.tenants:
        assert asked[tenant.name] / (3000.0 * scenario.workers) == pytest.approx(2.0 * tenant.demand, rel=0.15), tenant.name


def test_bursts_multiply_the_rate_while_they_last():
    times = np.array([one.at for one in bursts(mixed(), 0.5, SECONDS, 1, factor=4.0, on_s=60.0, off_s=240.0)]) - START
    phase = times % 300.0
    on, off = np.sum(phase >= 240.0) / 120.0, np.sum(phase < 240.0) / 480.0
    assert on / off == pytest.approx(4.0, rel=0.15)


def test_a_recording_gives_back_what_was_recorded(tmp_path: Path):
    path = tmp_path / "topic.jsonl"
    recorded = [
        arrival("a", at=5.0, tier=Tier.PRO, steps=8, deadline_at=30.0),
        arrival("b", at=5.5, service_class=ServiceClass.BATCH, prompt="a naïve cat"),
    ]
    assert write_recording(path, recorded) == 2
    assert list(read_recording(path)) == recorded


def test_synthetic_arrivals_are_valid_requests(tmp_path: Path):
    path = tmp_path / "topic.jsonl"
    made = list(poisson(mixed(), 1.0, 5.0, 1))
    write_recording(path, made)
    assert [one.raw for one in read_recording(path)] == [one.raw for one in made]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nonsense", "line 2"),
        ('{"at": 1, "request": {}}', "class is missing"),
        ('{"at": 9, "class": "sometimes", "request": {}}', "sometimes"),
        ('{"at": 9, "class": "batch", "request": {"request_id": "x", "tenant": "acme"}}', "request.prompt"),
        ('{"at": null, "class": "batch", "request": {}}', "line 2"),
        ("[]", "line 2"),
    ],
)
def test_a_wrong_line_is_named_with_what_is_wrong(tmp_path: Path, line: str, words: str):
    path = tmp_path / "topic.jsonl"
    good = json.dumps({"at": 1.0, "class": "realtime", "request": json.loads(arrival("a").raw)})
    path.write_text(f"{good}\n{line}\n")
    with pytest.raises(RecordingError, match=r"topic\.jsonl, line 2") as caught:
        list(read_recording(path))
    assert words in str(caught.value)


def test_lines_out_of_order_are_refused(tmp_path: Path):
    path = tmp_path / "topic.jsonl"
    write_recording(path, [arrival("a", at=5.0), arrival("b", at=4.0)])
    with pytest.raises(RecordingError, match="sort the lines"):
        list(read_recording(path))
