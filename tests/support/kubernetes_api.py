"""A small HTTP server that speaks the part of the Kubernetes API that scaling needs, and keeps pods as a controller would.

Paths, bodies, media types and errors are those of ``autoscaling/v1`` Scale and ``v1`` Pod, with bodies built from the official client's own
models. What a real server refuses is refused: other media types of patches, unknown parts of one, negative replicas, annotations that are
no text.
As on a real server, a StatefulSet makes and deletes one pod after the other. :meth:`ClusterDouble.settle` does what the cluster does in
time.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubernetes import client

from include.autoscale.drivers.kubernetes import DELETION_COST

PATCHES = ("application/merge-patch+json", "application/strategic-merge-patch+json")
KINDS = {"deployments": "Deployment", "statefulsets": "StatefulSet"}


class ClusterDouble:
    """One workload and its pods."""

    def __init__(self, resource: str = "deployments", name: str = "worker", namespace: str = "atelier") -> None:
        self.resource, self.name, self.namespace = resource, name, namespace
        self.replicas = 0
        self.pods: dict[str, dict[str, Any]] = {}
        self.capacity = 100  #: pods that find a node
        self.lags = False  #: whether a new number of replicas has no effect before :meth:`settle`
        self.refusal: int | None = None  #: HTTP status of every answer
        self.patches: list[Any] = []
        self.looks = 0  #: times that the scale was asked for
        self._version = self._made = 0
        self._lock = threading.Lock()
        self.url = ""

    def reconcile(self) -> None:
        """What the workload's controller does next: make pods, or mark some for deletion."""
        live = self._live()
        at_once = 1 if self.resource == "statefulsets" else abs(self.replicas - len(live))
        if self.resource == "statefulsets" and any(name not in live or not _is_ready(pod) for name, pod in self.pods.items()):
            at_once = 0
        for _ in range(min(at_once, self.replicas - len(live))):
            self.pods[self._fresh_name(self._live())] = _pod()
        for name in self._victims(live)[: max(0, min(at_once, len(live) - self.replicas))]:
            self.pods[name]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

    def settle(self) -> None:
        """Pods that find a node become ready, those marked for deletion go, until nothing changes any more."""
        with self._lock:
            while True:
                self.reconcile()
                before = json.dumps(self.pods)
                self.pods = {name: self.pods[name] for name in self._live()}
                for pod in list(self.pods.values())[: self.capacity]:
                    pod["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
                if json.dumps(self.pods) == before:
                    return

    def _live(self) -> list[str]:
        return [name for name, pod in self.pods.items() if "deletionTimestamp" not in pod["metadata"]]

    def answer(self, method: str, url: str, media_type: str, body: Any) -> tuple[int, dict[str, Any]]:
        with self._lock:
            if self.refusal is not None:
                return self.refusal, _status(self.refusal, "refused")
            parts = urlsplit(url)
            if parts.path == f"/apis/apps/v1/namespaces/{self.namespace}/{self.resource}/{self.name}/scale":
                return self._scale(method, media_type, body)
            if parts.path.startswith(f"/api/v1/namespaces/{self.namespace}/pods"):
                return self._pods(method, parts.path.split("/")[6:], parse_qs(parts.query), media_type, body)
            return 404, _status(404, f"{parts.path} not found")

    def _scale(self, method: str, media_type: str, body: Any) -> tuple[int, dict[str, Any]]:
        self.looks += method == "GET"
        if method == "PATCH":
            if media_type not in PATCHES:
                return 415, _status(415, f"the body of the request was in an unknown format - accepted media types include: {PATCHES}")
            if (trouble := _trouble(body, client.V1Scale, client.V1ScaleSpec)) is not None:
                return 400, _status(400, trouble)
            replicas = body["spec"]["replicas"]
            if not isinstance(replicas, int) or replicas < 0:
                words = f"spec.replicas: Invalid value: {replicas}: must be greater than or equal to 0"
                return 422, _status(422, f'Scale.autoscaling "{self.name}" is invalid: {words}')
            self.patches.append(body)
            self.replicas = replicas
            self._version += 1
            if not self.lags:
                self.reconcile()
        return 200, _json(
            client.V1Scale(
                api_version="autoscaling/v1",
                kind="Scale",
                metadata=client.V1ObjectMeta(name=self.name, namespace=self.namespace, resource_version=str(self._version)),
                spec=client.V1ScaleSpec(replicas=self.replicas),
                status=client.V1ScaleStatus(replicas=len(self.pods), selector="app=worker,pool=spot"),
            )
        )

    def _pods(self, method: str, path: list[str], query: dict[str, list[str]], media_type: str, body: Any) -> tuple[int, dict[str, Any]]:
        if not path:
            if query.get("labelSelector") != ["app=worker,pool=spot"]:
                return 200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": []}
            items = [{**pod, "metadata": {**pod["metadata"], "name": name}} for name, pod in self.pods.items()]
            return 200, {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": str(self._version)}, "items": items}
        if path[0] not in self.pods:
            return 404, _status(404, f'pods "{path[0]}" not found')
        if method == "PATCH":
            if media_type not in PATCHES:
                return 415, _status(415, f"the body of the request was in an unknown format - accepted media types include: {PATCHES}")
            annotations = body["metadata"]["annotations"]
            trouble = _trouble(body, client.V1Pod, client.V1ObjectMeta, part="metadata")
            if trouble is None and not all(isinstance(value, str) for value in annotations.values()):
                trouble = "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.annotations of type string"
            if trouble is not None:
                return 400, _status(400, trouble)
            self.pods[path[0]]["metadata"].setdefault("annotations", {}).update(annotations)
        return 200, {"kind": "Pod", "apiVersion": "v1", **self.pods[path[0]]}

    def _fresh_name(self, live: list[str]) -> str:
        if self.resource == "statefulsets":
            return next(name for number in range(1000) if (name := f"{self.name}-{number}") not in live)
        self._made += 1
        return f"{self.name}-5d8f-{self._made:04d}"

    def _victims(self, live: list[str]) -> list[str]:
        """Who goes first: of a StatefulSet the last; else pods that are not ready, then the least deletion cost, then the newest."""
        if self.resource == "statefulsets":
            return sorted(live, reverse=True)
        order = {name: number for number, name in enumerate(live)}
        return sorted(live, key=lambda name: (_is_ready(self.pods[name]), _cost(self.pods[name]), -order[name]))


def _pod() -> dict[str, Any]:
    return {"metadata": {}, "spec": {"containers": [{"name": "worker"}]}, "status": {"phase": "Pending"}}


def _is_ready(pod: dict[str, Any]) -> bool:
    return bool(pod["status"]["phase"] == "Running")


def _json(model: Any) -> dict[str, Any]:
    found: dict[str, Any] = client.ApiClient().sanitize_for_serialization(model)
    return found


def _trouble(body: Any, model: Any, inner: Any, part: str = "spec") -> str | None:
    """What strict decoding of a patch complains of: names that the models don't know."""
    if not isinstance(body, dict) or not isinstance(body.get(part), dict):
        return f"json: cannot unmarshal the patch: it has no {part}"
    unknown = [*(set(body) - set(model.attribute_map.values())), *(set(body[part]) - set(inner.attribute_map.values()))]
    return f'strict decoding error: unknown field "{unknown[0]}"' if unknown else None


def _cost(pod: dict[str, Any]) -> int:
    return int(pod["metadata"].get("annotations", {}).get(DELETION_COST, "0"))


def _status(code: int, message: str) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": "x", "code": code}


@contextmanager
def cluster(**changes: Any) -> Iterator[ClusterDouble]:
    """A running double; its address is :attr:`ClusterDouble.url`."""
    double = ClusterDouble(**changes)

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            code, answer = double.answer(self.command, self.path, self.headers.get("Content-Type", ""), body)
            data = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PATCH = _any

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)  # seconds until it notices that it is to end
    thread.start()
    double.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield double
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
