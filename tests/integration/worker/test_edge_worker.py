"""A worker that reaches nothing but the gateway's address renders a lease."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from pydantic import SecretStr

from include.config import Settings
from include.contracts import topics as names
from include.contracts.control import ModelRoute
from include.contracts.dispatch import ModelRef
from include.contracts.requests import ImageFormat
from include.contracts.workers import Completed, Credit, Goodbye, RenderProgress
from include.gateway.edge.keys import EdgeCaller, create_edge_key
from include.platform.ports import free_ports
from include.storage import ObjectStore
from include.worker.edge_client import EdgeAccess
from tests.integration.gateway.conftest import GatewayProcess, running_gateway
from tests.integration.worker.conftest import Router, Workers
from tests.support.kafka_client import send
from tests.support.leases import render_task
from tests.support.registry import DEFAULTS

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def gateway(installed: Settings) -> Iterator[GatewayProcess]:
    with running_gateway(installed.model_copy(update={"gateway_port": free_ports(1)[0]})) as process:
        yield process


def access(gateway: GatewayProcess) -> EdgeAccess:
    credential = create_edge_key(gateway.settings.home, EdgeCaller(workers="worker-*", pool="standard"))
    return EdgeAccess(gateway=gateway.settings.gateway, credential=SecretStr(credential))


@pytest.fixture
def elsewhere(workers: Workers, tmp_path: Path) -> Workers:
    """Workers on a machine from which broker, registry and store can't be reached."""
    home = tmp_path / "elsewhere"
    home.mkdir()
    workers.settings = workers.settings.model_copy(
        update={"home": home, "kafka_bootstrap": "127.0.0.1:9", "mlflow_uri": NOWHERE, "store_url": "s3://nowhere", "s3_endpoint": NOWHERE}
    )
    return workers


def test_a_lease_is_rendered_to_its_end_over_http_alone(
    elsewhere: Workers, router: Router, gateway: GatewayProcess, model: ModelRef, store: ObjectStore
) -> None:
    route = ModelRoute(at=1.0, name=model.name, champion=model, defaults=DEFAULTS)
    send(router.settings, names.CONTROL, route.to_json(), key=route.key)
    worker = elsewhere.start(edge=access(gateway))
    hello = router.hello()
    router.wait(Credit, warm_models=(model.key,))  # loaded ahead, through the gateway
    tasks = [render_task(images=2), render_task(image_format=ImageFormat.WEBP, steps=4)]
    outcomes = router.outcomes(router.lease(hello, *tasks, model=model), timeout=120)
    assert all(isinstance(outcome, Completed) for outcome in outcomes)
    for outcome in outcomes:
        assert isinstance(outcome, Completed)
        for image in outcome.images:
            assert Image.open(io.BytesIO(store.get(image.key))).size == (16, 16)
    # The gateway dies in mid-render, and the result arrives once it is back.
    lease = router.lease(hello, render_task(steps=200, images=8, width=32, height=32), model=model, lease_s=60.0)
    router.wait(RenderProgress, lease_id=lease.lease_id)
    gateway.stop(9)
    gateway.start()
    (outcome,) = router.outcomes(lease, timeout=120)
    assert isinstance(outcome, Completed) and len(outcome.images) == 8
    worker.end()
    assert router.wait(Goodbye, worker_id="worker-0")
