"""What stands between an edge worker and its gateway."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from pydantic import SecretStr

from include.storage import StoreUnavailable
from include.worker.edge_client import EdgeAccess, EdgeClient
from include.worker.edge_store import EdgeStore
from tests.support.http_server import serving


@pytest.fixture
def behind_a_login_page() -> Iterator[EdgeStore]:
    app = FastAPI()

    @app.api_route("/{path:path}", methods=["GET", "HEAD", "PUT"])
    def page(path: str) -> HTMLResponse:
        return HTMLResponse("<h1>Please sign in</h1>")

    with serving(app) as address:
        client = EdgeClient(EdgeAccess(gateway=address, credential=SecretStr("any")), worker_id="worker-0", incarnation="i-1")
        yield EdgeStore(client)
        client.close()


def test_a_page_of_a_proxy_is_worth_another_try_and_no_object(behind_a_login_page: EdgeStore) -> None:
    for ask in (
        lambda: behind_a_login_page.put_if_absent("images/a.png", b"x", "image/png"),
        lambda: behind_a_login_page.head("images/a.png"),
    ):
        with pytest.raises(StoreUnavailable, match=r"text/html.* is no answer of the gateway.*--gateway"):
            ask()
