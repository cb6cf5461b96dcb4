"""Aliases: the names, such as ``champion``, that people move between versions."""

from __future__ import annotations

import time
from dataclasses import replace

from include.config import settings
from include.registry.client import RegistryClient
from include.registry.errors import RegistryError, RegistryUnavailableError, UnknownModelError
from include.registry.signatures import Signature
from include.registry.tags import ServableVersion, servable

CHAMPION = "champion"
CHALLENGER = "challenger"


def set_alias(name: str, alias: str, version: str, *, by: str = "", why: str = "", uri: str | None = None) -> None:
    """Move an alias, signed, so that the ledger knows who and why, whenever it sees the move."""
    _move(name, alias, version, by, why, uri)


def delete_alias(name: str, alias: str, *, by: str = "", why: str = "", uri: str | None = None) -> None:
    """Take an alias away, signed; nothing happens where it isn't there."""
    _move(name, alias, None, by, why, uri)


def get_alias(name: str, alias: str, *, uri: str | None = None) -> str | None:
    """The version that the alias names; None where there is no such model or alias."""
    with RegistryClient(uri or settings().mlflow) as client:
        try:
            return client.alias(name, alias)
        except UnknownModelError:
            return None


def version_ref(name: str, version: str, *, uri: str | None = None) -> ServableVersion:
    """Raises :class:`UnknownModelError` or :class:`ModelRejectedError`."""
    with RegistryClient(uri or settings().mlflow) as client:
        return servable(client.version(name, version))


def _move(name: str, alias: str, version: str | None, by: str, why: str, uri: str | None) -> None:
    with RegistryClient(uri or settings().mlflow) as client:
        before = client.model(name).aliases.get(alias)
        if before == version:
            return
        signature = Signature(alias=alias, by=by or "atelier", why=why, at=time.time(), from_version=before, to_version=version)
        client.set_model_tag(name, signature.tag, signature.to_value())
        try:
            if version is None:
                client.delete_alias(name, alias)
            else:
                client.set_alias(name, alias, version)
        except RegistryUnavailableError:
            raise  # it may have been done all the same, and then the signature tells by whom
        except RegistryError:
            client.delete_model_tag(name, signature.tag)
            raise
        client.set_model_tag(name, signature.tag, replace(signature, done=True).to_value())
