"""The object stores."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from include.config import Settings
from include.gateway import errors
from include.gateway.edge import objects, session
from include.storage import ObjectStore, open_store
from include.storage.s3 import S3Store
from include.worker.edge_client import EdgeAccess, EdgeClient
from include.worker.edge_store import EdgeStore
from tests.support.http_server import serving
from tests.support.s3 import S3Server


class EveryRight:
    """Of a worker whose leases cover every key."""

    def may_read(self, key: str) -> bool:
        return True

    def creates(self, key: str) -> str | None:
        return "application/octet-stream"

    def replaces(self, key: str) -> str | None:
        return "application/octet-stream"


@pytest.fixture(scope="session")
def object_door() -> Iterator[tuple[FastAPI, EdgeClient]]:
    """The gateway's real routes of objects; which store is behind them, each test says."""
    app = FastAPI()
    errors.install(app)
    app.include_router(objects.router, prefix="/v1/edge")
    app.dependency_overrides[session.lease_rights] = EveryRight
    with serving(app) as address:
        client = EdgeClient(EdgeAccess(gateway=address, credential=SecretStr("any")), worker_id="worker-0", incarnation="i-1")
        yield app, client
        client.close()


@pytest.fixture(params=["directory", "s3", "edge"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """A store that may not list its keys."""
    if request.param != "edge":
        return _open(request, tmp_path)
    app, client = request.getfixturevalue("object_door")
    behind = open_store(Settings(_env_file=None, home=tmp_path))
    app.dependency_overrides[session.edge_store] = lambda: behind
    return EdgeStore(client)


@pytest.fixture(params=["directory", "s3"])
def listing_store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return _open(request, tmp_path)


def _open(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "directory":
        return open_store(Settings(_env_file=None, home=tmp_path))
    store: S3Store = copy.copy(request.getfixturevalue("bucket"))
    store.prefix = f"test-{uuid.uuid4().hex[:8]}/"
    return store


@pytest.fixture(scope="session")
def bucket(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> S3Store:
    """All of the server's bucket: boto3 takes longer to make a client than a test takes."""
    store = open_store(s3_server.settings(Settings(_env_file=None, home=tmp_path_factory.mktemp("home"))))
    assert isinstance(store, S3Store)
    return store
