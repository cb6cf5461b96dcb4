"""``python -m include.gateway``: serves HTTP on the configured address until it is told to stop."""

from __future__ import annotations

import logging
from typing import Any

import uvicorn
from fastapi import FastAPI

from include.config import settings
from include.gateway.app import create_app

GRACE_S = 5


class Server(uvicorn.Server):
    """Ends the open event streams first, for they would otherwise hold the shutdown up to its limit."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: Any = None) -> None:
        self._app.state.services.hub.close()
        await super().shutdown(sockets)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    found = settings()
    app = create_app(found)
    config = uvicorn.Config(
        app,
        host=found.host,
        port=found.gateway_port,
        access_log=False,
        log_config=None,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    logging.getLogger(__name__).info("serving on %s, Kafka at %s", found.gateway, found.bootstrap)
    Server(config, app).run()


if __name__ == "__main__":
    main()
