"""Aliases: the names, such as ``champion``, that people move between versions."""

from __future__ import annotations

import time

from include.config import settings
from include.registry.client import RegistryClient
from include.registry.errors import UnknownModelError
from include.registry.tags import MOVE, Move, ServableVersion, servable

CHAMPION = "champion"
CHALLENGER = "challenger"


def set_alias(name: str, alias: str, version: str, *, by: str = "", why: str = "", uri: str | None = None) -> None:
    """Move an alias. The signature (``by``, ``why``) goes on the version first, so that the ledger finds it when it sees the move."""
    with RegistryClient(uri or settings().mlflow) as client:
        move = Move(by=by or "atelier", why=why, at=time.time())
        client.set_version_tag(name, version, MOVE + alias, move.to_tag())
        client.set_alias(name, alias, version)


def get_alias(name: str, alias: str, *, uri: str | None = None) -> str | None:
    """The version that the alias names; None where there is no such model or alias."""
    with RegistryClient(uri or settings().mlflow) as client:
        try:
            return client.alias(name, alias)
        except UnknownModelError:
            return None


def delete_alias(name: str, alias: str, *, uri: str | None = None) -> None:
    with RegistryClient(uri or settings().mlflow) as client:
        client.delete_alias(name, alias)


def version_ref(name: str, version: str, *, uri: str | None = None) -> ServableVersion:
    """Raises :class:`UnknownModelError` or :class:`ModelRejectedError`."""
    with RegistryClient(uri or settings().mlflow) as client:
        return servable(client.version(name, version))
