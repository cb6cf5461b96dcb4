"""A real S3 server for tests: versitygw over a directory, built once from its pinned source."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import httpx
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import SecretStr

from include.config import PROJECT_ROOT, Settings
from include.platform.ports import free_ports
from tests.support.waiting import wait_for

VERSION = "v1.8.0"
MODULE = f"github.com/versity/versitygw/cmd/versitygw@{VERSION}"
BUCKET = "atelier"
ACCESS_KEY, SECRET_KEY = "tester", "tester-secret"


def server_binary() -> Path:
    """The program; built at the first call, which takes about a minute and needs Go and the Go module proxy."""
    folder = PROJECT_ROOT / ".jars" / "tools"
    binary = folder / f"versitygw-{VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several test processes one builds and the others wait for it
        if not binary.exists():
            _build(binary)
    return binary


def _build(binary: Path) -> None:
    if shutil.which("go") is None:
        raise RuntimeError("the tests on S3 build their server with Go: install Go 1.26 or newer and put `go` on PATH")
    part = binary.parent / f"build-{os.getpid()}"
    environment = {**os.environ, "GOBIN": str(part), "GOFLAGS": "-buildvcs=false"}
    subprocess.run(["go", "install", MODULE], check=True, env=environment, timeout=540)
    (part / "versitygw").replace(binary)
    part.rmdir()


class S3Server:
    """May be stopped and started again; what it stored stays."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = free_ports(1)[0]
        self.process: subprocess.Popen[bytes] | None = None
        for name in ("objects", "versions"):
            (root / name).mkdir(parents=True, exist_ok=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [str(server_binary()), "--port", f"127.0.0.1:{self.port}", "--access", ACCESS_KEY, "--secret", SECRET_KEY, "posix"]
        with (self.root / "server.log").open("ab") as log:
            self.process = subprocess.Popen([*command, str(self.root / "objects")], stdout=log, stderr=log, start_new_session=True)
        wait_for(self._answers, 30, f"the S3 server at {self.endpoint} (log: {self.root / 'server.log'})")
        try:
            self.client().create_bucket(Bucket=BUCKET)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
            self.process = None

    def settings(self, base: Settings, prefix: str = "") -> Settings:
        return base.model_copy(
            update={
                "store_url": f"s3://{BUCKET}/{prefix}",
                "s3_endpoint": self.endpoint,
                "s3_access_key": SecretStr(ACCESS_KEY),
                "s3_secret_key": SecretStr(SECRET_KEY),
            }
        )

    def environment(self) -> dict[str, str]:
        """The variables by which other programs find it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def upload(self, folder: Path, prefix: str) -> str:
        """Copies a folder's files; where they are."""
        client = self.client()  # making one takes longer than an upload
        for path in sorted(folder.iterdir()):
            client.upload_file(str(path), BUCKET, f"{prefix}/{path.name}")
        return f"s3://{BUCKET}/{prefix}"

    def client(self):
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        )

    def _answers(self) -> bool:
        try:
            return httpx.get(self.endpoint, timeout=2).status_code > 0
        except (httpx.HTTPError, BotoCoreError):
            return False


@contextmanager
def s3_server_at(root: Path) -> Iterator[S3Server]:
    server = S3Server(root)
    try:
        server.start()
        yield server
    finally:
        server.stop()
