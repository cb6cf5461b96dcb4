from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fastapi import FastAPI

from include.worker.edge_client import CredentialRefusedError, EdgeAccess, EdgeClient, EdgeConfigError
from tests.support.http_server import serving


@pytest.fixture
def credential_file(tmp_path: Path) -> Path:
    path = tmp_path / "credential"
    path.write_text("atelier-edge-abc\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    "gateway", ["https://gateway.example.com", "https://g:8443/", "http://127.0.0.1:8000", "http://localhost:1", "http://[::1]:2"]
)
def test_https_anywhere_and_http_on_this_machine(gateway: str, credential_file: Path) -> None:
    access = EdgeAccess.of(gateway, credential_file)
    assert access.gateway == gateway.rstrip("/")
    assert access.credential.get_secret_value() == "atelier-edge-abc"
    assert "atelier-edge-abc" not in repr(access)


@pytest.mark.parametrize(
    ("gateway", "words"),
    [
        ("http://gateway.example.com", "use https://"),
        ("http://10.0.0.5:8000", "use https://"),
        ("gateway.example.com", "use https://host"),
        ("ftp://x", "use https://host"),
        ("https://user:pw@host", "use https://host"),
        ("https://host?x=1", "use https://host"),
        ("https://", "use https://host"),
    ],
)
def test_an_address_that_would_betray_the_credential_is_refused(gateway: str, words: str, credential_file: Path) -> None:
    with pytest.raises(EdgeConfigError, match=words):
        EdgeAccess.of(gateway, credential_file)


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"\xff\xfe"])
def test_a_file_without_a_credential_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "credential"
    path.write_bytes(content)
    with pytest.raises(EdgeConfigError, match="credential"):
        EdgeAccess.of("https://host", path)
    with pytest.raises(EdgeConfigError, match="No such file"):
        EdgeAccess.of("https://host", tmp_path / "none")
    with pytest.raises(EdgeConfigError, match="edge-key create"):
        EdgeAccess.of("https://host", None)


def test_a_credential_that_others_can_read_is_said_to_be_so(credential_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    credential_file.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        EdgeAccess.of("https://host", credential_file)
    assert "chmod 600" in caplog.text


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(private.public_key())
    builder = builder.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
    certificate = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(private, hashes.SHA256())
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return paths


def test_certificates_are_verified_and_an_own_authority_can_be_named(tmp_path: Path, credential_file: Path) -> None:
    certificate, key = self_signed(tmp_path)
    app = FastAPI()

    @app.get("/v1/edge/session")
    def session() -> dict[str, str]:
        return {"cell": "cell-0"}

    with serving(app, certificate=certificate, key=key) as address:
        strict = EdgeClient(EdgeAccess.of(address, credential_file), worker_id="w", incarnation="i")
        with pytest.raises(httpx.ConnectError, match=r"(?i)certificate"):
            strict.call("GET", "session")
        strict.close()
        trusting = EdgeClient(EdgeAccess.of(address, credential_file, certificate), worker_id="w", incarnation="i")
        assert trusting.call("GET", "session").json() == {"cell": "cell-0"}
        trusting.close()


def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path, credential_file: Path) -> None:
    access = EdgeAccess.of("https://host", credential_file, credential_file)
    with pytest.raises(EdgeConfigError, match="--ca-file"):
        EdgeClient(access, worker_id="w", incarnation="i")


def test_a_refused_credential_is_an_error_of_its_own_and_goes_nowhere_else(credential_file: Path) -> None:
    app, seen = FastAPI(), []

    @app.get("/v1/edge/session")
    def session() -> None:
        from fastapi import HTTPException

        raise HTTPException(401, "no")

    @app.get("/v1/edge/moved")
    def moved() -> object:
        from fastapi.responses import RedirectResponse

        return RedirectResponse("/elsewhere")

    @app.get("/elsewhere")
    def elsewhere() -> None:
        seen.append("the credential")

    with serving(app) as address:
        client = EdgeClient(EdgeAccess.of(address, credential_file), worker_id="w", incarnation="i")
        with pytest.raises(CredentialRefusedError):
            client.call("GET", "session")
        assert client.call("GET", "moved").status_code == 307
        assert not seen
        client.close()
