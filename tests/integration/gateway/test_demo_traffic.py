"""The demo's sixty requests on a real broker, through a real gateway; a script answers in the router's place."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from include.client.producer import TopicProducer
from include.config import Settings
from include.contracts import topics as names
from include.contracts.control import Scenario
from include.demo.observer import Observer
from include.demo.options import DemoOptions
from include.demo.sending import Sender
from include.demo.traffic import Traffic, check_gateway_images, plan_traffic, run_traffic
from tests.integration.gateway.conftest import GatewayProcess
from tests.integration.gateway.scripted_router import ScriptedRouter


def run(settings: Settings, options: DemoOptions, lose: str = "") -> tuple[Traffic, list[str], str]:
    """The traffic, the gateway's faults, and what was printed."""
    console = Console(file=io.StringIO(), width=200)
    with ScriptedRouter(settings, lose), Observer(settings) as observer, Sender(settings) as sender:
        traffic = run_traffic(settings, options, observer, sender, console)
        faults = check_gateway_images(traffic, sender)
    assert isinstance(console.file, io.StringIO)
    return traffic, faults, console.file.getvalue()


@pytest.fixture
def scenario(gateway_settings: Settings) -> None:
    offer = Scenario(at=1.0, name="sticker", model="emoji")
    with TopicProducer(gateway_settings) as producer:
        producer.put(names.CONTROL, offer.to_json(), offer.key)


@pytest.mark.usefixtures("scenario")
def test_all_sixty_are_judged_right_twice_in_a_row(gateway: GatewayProcess, tmp_path: Path) -> None:
    for name in ("first", "second"):
        options = DemoOptions(out=tmp_path, run=name, traffic_timeout_s=60)
        traffic, faults, printed = run(gateway.settings, options)
        assert [(verdict.planned.label, verdict.outcome, verdict.detail) for verdict in traffic.verdicts if not verdict.ok] == []
        assert (len(traffic.good()), len(traffic.bad()), faults) == (40, 20, [])
        assert any(verdict.planned.fields.get("scenario") == "sticker" for verdict in traffic.good())
        assert "sent 60 of 60" in printed


def test_one_that_gets_no_answer_is_found(gateway: GatewayProcess, tmp_path: Path) -> None:
    options = DemoOptions(out=tmp_path, run="losing", requests=25, traffic_timeout_s=8)
    lost = next(planned for planned in plan_traffic(options, None)[1:] if planned.good)
    assert lost.request_id
    traffic, _, _ = run(gateway.settings, options, lose=lost.request_id)
    assert [verdict.planned.request_id for verdict in traffic.verdicts if not verdict.ok] == [lost.request_id]
    assert not traffic.ok
