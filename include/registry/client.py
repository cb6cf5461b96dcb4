"""The few calls of MLflow's REST API that serving needs, without importing MLflow, which takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx

from include.registry.errors import RegistryError, RegistryUnavailableError, UnknownModelError

PAGE = 200
_MISSING = frozenset({"RESOURCE_DOES_NOT_EXIST"})
_CODES_FOR_NO_ALIAS = "not found"  # MLflow answers a missing alias with INVALID_PARAMETER_VALUE and these words


@dataclass(frozen=True, kw_only=True)
class RegisteredModel:
    name: str
    aliases: dict[str, str] = field(default_factory=dict)  #: alias to version
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    name: str
    version: str
    source: str  #: where its files are
    run_id: str
    tags: dict[str, str] = field(default_factory=dict)


class RegistryClient:
    """Every method raises :class:`RegistryUnavailableError` where MLflow does not answer or answers 5xx,
    :class:`UnknownModelError` where it has no such thing, :class:`RegistryError` for its other refusals."""

    def __init__(self, uri: str, *, timeout_s: float = 10.0) -> None:
        self.uri = uri.rstrip("/")
        self.http = httpx.Client(base_url=self.uri, timeout=httpx.Timeout(timeout_s, connect=3.0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self.http.close()

    def models(self) -> list[RegisteredModel]:
        """Every registered model."""
        return list(self._pages("registered-models/search", "registered_models", _model))

    def model(self, name: str) -> RegisteredModel:
        return _model(self.call("GET", "registered-models/get", params={"name": name})["registered_model"])

    def version(self, name: str, version: str) -> ModelVersion:
        return _version(self.call("GET", "model-versions/get", params={"name": name, "version": version})["model_version"])

    def versions(self, name: str) -> list[ModelVersion]:
        """Every version of a model, newest first."""
        found = self._pages("model-versions/search", "model_versions", _version, filter=f"name='{name}'")
        return sorted(found, key=lambda version: int(version.version), reverse=True)

    def alias(self, name: str, alias: str) -> str:
        """The version that the alias names."""
        answer = self.call("GET", "registered-models/alias", params={"name": name, "alias": alias})
        return str(answer["model_version"]["version"])

    def set_alias(self, name: str, alias: str, version: str) -> None:
        self.call("POST", "registered-models/alias", json={"name": name, "alias": alias, "version": version})

    def delete_alias(self, name: str, alias: str) -> None:
        self.call("DELETE", "registered-models/alias", json={"name": name, "alias": alias})

    def set_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        self.call("POST", "model-versions/set-tag", json={"name": name, "version": version, "key": key, "value": value})

    def set_model_tag(self, name: str, key: str, value: str) -> None:
        self.call("POST", "registered-models/set-tag", json={"name": name, "key": key, "value": value})

    def delete_model_tag(self, name: str, key: str) -> None:
        """Nothing happens where it has no such tag."""
        try:
            self.call("DELETE", "registered-models/delete-tag", json={"name": name, "key": key})
        except UnknownModelError:
            return

    def call(self, method: str, path: str, **content: Any) -> Any:
        try:
            answer = self.http.request(method, f"/api/2.0/mlflow/{path}", **content)
        except httpx.HTTPError as error:
            raise RegistryUnavailableError(f"no answer from MLflow at {self.uri}: {error or type(error).__name__}") from error
        if answer.is_success:
            return answer.json()
        raise _refusal(answer)

    def _pages(self, path: str, field_name: str, make: Any, **query: str) -> Iterator[Any]:
        token = ""
        while True:
            page = {"max_results": PAGE, **query, **({"page_token": token} if token else {})}
            answer = self.call("GET", path, params=page)
            yield from (make(row) for row in answer.get(field_name, ()))
            token = answer.get("next_page_token", "")
            if not token:
                return


def _refusal(answer: httpx.Response) -> RegistryError:
    try:
        body = answer.json()
        code, words = str(body.get("error_code", "")), str(body.get("message", ""))
    except ValueError:
        code, words = "", answer.text[:200]
    text = f"MLflow refused {answer.request.url.path.removeprefix('/api/2.0/mlflow/')}: {words or answer.status_code}"
    if code in _MISSING or _CODES_FOR_NO_ALIAS in words:
        return UnknownModelError(text)
    if answer.status_code >= 500 or answer.status_code == 429:
        return RegistryUnavailableError(text)
    return RegistryError(text)


def _pairs(rows: list[dict[str, str]] | None, key: str, value: str) -> dict[str, str]:
    return {row[key]: row.get(value, "") for row in rows or ()}


def _model(row: dict[str, Any]) -> RegisteredModel:
    return RegisteredModel(
        name=row["name"], aliases=_pairs(row.get("aliases"), "alias", "version"), tags=_pairs(row.get("tags"), "key", "value")
    )


def _version(row: dict[str, Any]) -> ModelVersion:
    return ModelVersion(
        name=row["name"],
        version=str(row["version"]),
        source=row.get("source", ""),
        run_id=row.get("run_id", ""),
        tags=_pairs(row.get("tags"), "key", "value"),
    )
