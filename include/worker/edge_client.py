"""HTTP to the gateway for a worker that reaches nothing else of the installation."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

log = logging.getLogger(__name__)

TIMEOUT = httpx.Timeout(30.0, connect=5.0)


class EdgeConfigError(ValueError):
    """The gateway's address, the credential or the certificates given are no good."""


class CredentialRefusedError(Exception):
    """The gateway does not take the credential, or not for this worker."""


@dataclass(frozen=True, kw_only=True)
class EdgeAccess:
    """Where the gateway is and what opens it."""

    gateway: str  #: https://host[:port][/path]; http only for this machine itself
    credential: SecretStr
    ca_file: Path | None = None  #: certificates to trust instead of the system's

    @classmethod
    def of(cls, gateway: str, credential_file: Path | None, ca_file: Path | None = None) -> EdgeAccess:
        """Raises :class:`EdgeConfigError`."""
        if credential_file is None:
            raise EdgeConfigError("--credential-file: a worker behind a gateway needs one; `atelier edge-key create` makes it")
        return cls(gateway=_checked(gateway), credential=_read(credential_file), ca_file=ca_file)


class EdgeClient:
    """One worker's process towards the gateway. Safe to use from several threads.

    Certificates are always verified; redirects, which could carry the credential elsewhere, are not followed.
    """

    def __init__(self, access: EdgeAccess, *, worker_id: str, incarnation: str) -> None:
        self.gateway = access.gateway
        self.headers = {
            "Authorization": f"Bearer {access.credential.get_secret_value()}",
            "X-Atelier-Worker": worker_id,
            "X-Atelier-Incarnation": incarnation,
        }
        self._tls = _tls(access.ca_file)
        self.http = self.new_http(TIMEOUT)

    def new_http(self, timeout: httpx.Timeout) -> httpx.Client:
        return httpx.Client(base_url=f"{self.gateway}/v1/edge/", headers=self.headers, timeout=timeout, verify=self._tls)

    def call(self, method: str, path: str, **content: Any) -> httpx.Response:
        """Raises :class:`CredentialRefusedError` for a 401, :class:`httpx.HTTPError` without an answer; other answers are the caller's."""
        answer = self.open(method, path, **content)
        try:
            answer.read()
        finally:
            answer.close()
        return answer

    def open(self, method: str, path: str, **content: Any) -> httpx.Response:
        """As :meth:`call`, but what it answers is still to be read, and to be closed."""
        answer = self.http.send(self.http.build_request(method, path, **content), stream=True)
        if answer.status_code == 401:
            with contextlib.closing(answer):
                answer.read()
            raise CredentialRefusedError(words_of(answer))
        return answer

    def close(self) -> None:
        self.http.close()


def words_of(answer: httpx.Response) -> str:
    """What the gateway's error envelope says, or whatever came instead of one."""
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}: {answer.text[:200]}"


def _checked(gateway: str) -> str:
    address = urlsplit(gateway)
    if address.scheme not in ("https", "http") or not address.hostname or address.username or address.query or address.fragment:
        raise EdgeConfigError(f"--gateway {gateway!r}: use https://host[:port]")
    if address.scheme == "http" and not _is_this_machine(address.hostname):
        raise EdgeConfigError(f"--gateway {gateway}: the credential would travel readable to all; use https://, http is for 127.0.0.1 only")
    return gateway.rstrip("/")


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read(path: Path) -> SecretStr:
    try:
        text = path.read_text(encoding="ascii").strip()
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise EdgeConfigError(f"--credential-file {path}: {getattr(error, 'strerror', None) or 'holds no credential'}") from error
    if not text or any(character.isspace() for character in text):
        raise EdgeConfigError(f"--credential-file {path}: must hold one credential and nothing else")
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        log.warning("%s can be read by others on this machine; `chmod 600 %s`", path, path)
    return SecretStr(text)


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except OSError as error:
        raise EdgeConfigError(f"--ca-file {ca_file}: no file of PEM certificates: {error}") from error
