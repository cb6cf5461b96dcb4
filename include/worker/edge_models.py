"""Models through the gateway: the files, verified like those from MLflow itself, and word of what will be asked for."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path
from typing import Protocol

import httpx

from include.contracts.dispatch import ModelRef
from include.registry.fetch import MAX_CACHE_BYTES, ModelFetcher
from include.worker.edge_client import CredentialRefusedError, EdgeClient, words_of

log = logging.getLogger(__name__)

ROUTES_EVERY_S = 5.0


class EdgeFetcher(ModelFetcher):
    """Asks the gateway by digest, whatever the version's source is; every check is the same."""

    def __init__(self, cache_dir: Path, client: EdgeClient, *, max_bytes: int | None = MAX_CACHE_BYTES) -> None:
        super().__init__(cache_dir, client.gateway, max_bytes=max_bytes)
        self.client = client

    def _http(self) -> httpx.Client:
        return self.client.new_http(self.timeout)

    def _address(self, ref: ModelRef) -> str:
        return f"{self.uri}/v1/edge/models/{ref.digest}"


class RouteTaker(Protocol):
    def note(self, value: bytes | None) -> None:
        """Take up a message of the control topic."""

    def load_next(self) -> bool:
        """Load one version ahead; whether one was to be loaded."""


def follow_edge_routes(client: EdgeClient, prefetcher: RouteTaker, stop: threading.Event) -> None:
    """Feeds changed model routes to the prefetcher until ``stop``."""
    known: dict[str, bytes] = {}
    while not stop.is_set():
        for name, route in _routes(client).items():
            if known.get(name) != route:
                known[name] = route
                prefetcher.note(route)
        if not prefetcher.load_next():
            stop.wait(ROUTES_EVERY_S)


def _routes(client: EdgeClient) -> dict[str, bytes]:
    """By model name; empty where the gateway does not tell now."""
    try:
        answer = client.call("GET", "routes")
    except (httpx.HTTPError, CredentialRefusedError, RuntimeError) as error:
        log.warning("model routes: %s", error or type(error).__name__)
        return {}
    if not answer.is_success:
        log.warning("model routes: %s", words_of(answer))
        return {}
    return {route["name"]: json.dumps(route).encode() for route in answer.json()}
