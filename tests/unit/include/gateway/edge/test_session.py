from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import httpx
from fastapi import FastAPI

from include.config import Settings
from include.gateway import errors
from include.gateway.edge import routes
from include.gateway.edge.desk import EdgeDesk
from include.gateway.edge.keys import EdgeCaller, create_edge_key
from include.gateway.edge.limits import RateLimit
from include.gateway.hub import Hub
from tests.support.http_server import serving


def test_a_worker_that_calls_too_often_is_told_when_to_come_back(tmp_path: Path) -> None:
    loop = asyncio.new_event_loop()
    desk = EdgeDesk(Settings(_env_file=None, home=tmp_path), Hub(loop), RateLimit(rate=0.25, burst=0.5))
    credential = create_edge_key(tmp_path, EdgeCaller(workers="w-1", pool="edge"))
    app = FastAPI()
    errors.install(app)
    app.include_router(routes.router)
    app.state.services = SimpleNamespace(edge=desk)
    known = {"Authorization": f"Bearer {credential}", "X-Atelier-Worker": "w-1", "X-Atelier-Incarnation": "i-1"}
    with serving(app) as address:
        answer = httpx.get(f"{address}/v1/edge/session", headers=known)
        assert (answer.status_code, answer.json()["error"]["code"], answer.headers["Retry-After"]) == (429, "rate_limited", "2")
        assert httpx.get(f"{address}/v1/edge/session", headers={**known, "X-Atelier-Worker": "w-2"}).status_code == 403
        assert httpx.get(f"{address}/v1/edge/session", headers={**known, "X-Atelier-Worker": "../w"}).status_code == 422
    loop.close()
