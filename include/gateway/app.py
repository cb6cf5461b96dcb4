"""The gateway's application: the API, the health checks, and a page to try it from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, JSONResponse

from include.config import Settings
from include.gateway import errors, routes
from include.gateway.edge import routes as edge_routes
from include.gateway.services import Services

INDEX = Path(__file__).parent / "pages" / "index.html"


def _version() -> str:
    try:
        return version("atelier")
    except PackageNotFoundError:
        return "0"


def health(live: Services) -> dict[str, Any]:
    """The gateway lives as long as this answers; ``status`` is degraded while Kafka is away."""
    kafka = live.broker_error()
    followers = {"events": live.events.state, "control": live.control_follower.state}
    return {
        "status": "degraded" if kafka else "ok",
        "kafka": kafka or "reachable",
        **{name: {"reading": state.reading, "error": state.error, "caught_up_at": state.caught_up_at} for name, state in followers.items()},
    }


def _lifespan(settings: Settings) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        live = app.state.services = Services(settings, asyncio.get_running_loop()).start()
        try:
            yield
        finally:
            live.hub.close()
            await asyncio.to_thread(live.close)

    return lifespan


def create_app(settings: Settings) -> FastAPI:
    app = FastAPI(
        title="Atelier gateway",
        version=_version(),
        lifespan=_lifespan(settings),
        summary="Text to image: send a request, follow it, fetch its images.",
    )
    errors.install(app)
    app.include_router(routes.router)
    app.include_router(edge_routes.router)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def index() -> str:
        return INDEX.read_text()

    @app.get("/healthz", tags=["health"])
    def healthz() -> dict[str, Any]:
        """Liveness: 200 as long as the gateway itself works; the body says whether Kafka is reachable."""
        return health(app.state.services)

    @app.get("/readyz", tags=["health"])
    def readyz() -> JSONResponse:
        """Readiness: 503 while Kafka is away, so that a balancer sends requests elsewhere."""
        found = health(app.state.services)
        return JSONResponse(found, status_code=200 if found["status"] == "ok" else 503)

    return app
