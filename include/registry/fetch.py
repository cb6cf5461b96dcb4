"""From a version in the registry to a verified directory on this machine."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx

from include.contracts.dispatch import ModelRef
from include.registry.errors import ModelRejectedError, RegistryUnavailableError
from include.registry.files import LIST_NAME, FileEntry, FileList, sha256_of, verify
from include.registry.uses import uses_of
from include.storage.limits import limit_for

log = logging.getLogger(__name__)

CHUNK = 1 << 20
MAX_LIST_BYTES = 1 << 20
MAX_CACHE_BYTES = 20 * 10**9


def artifacts_url(uri: str, ref: ModelRef) -> str:
    """Where the MLflow server at ``uri`` gives out the version's files. Raises :class:`ModelRejectedError` for a source elsewhere."""
    source = urlsplit(ref.source)
    steps = source.path.strip("/").split("/")
    if source.scheme != "mlflow-artifacts" or not all(steps) or not {".", ".."}.isdisjoint(steps):
        raise ModelRejectedError(f"{ref.key}: source {ref.source!r} is not one that the MLflow server gives out; use mlflow-artifacts:/…")
    return f"{uri.rstrip('/')}/api/2.0/mlflow-artifacts/artifacts/{quote('/'.join(steps))}"


class ModelFetcher:
    """Keeps versions under ``cache_dir/DIGEST``. Several processes may share the directory.

    :param uri: the MLflow server through which ``mlflow-artifacts:`` sources are read
    :param max_bytes: size above which the versions used least recently are deleted, but none that any process holds; None: never
    """

    def __init__(self, cache_dir: Path, uri: str, *, max_bytes: int | None = MAX_CACHE_BYTES, timeout_s: float = 30.0) -> None:
        self.cache_dir = cache_dir
        self.uri = uri.rstrip("/")
        self.max_bytes = max_bytes
        self.timeout_s = timeout_s
        self.timeout = httpx.Timeout(timeout_s, connect=3.0)
        self._uses = uses_of(cache_dir)
        self._lists: dict[str, FileList] = {}
        self._evicting = threading.Lock()

    def fetch(self, ref: ModelRef) -> Path:
        """The version's directory, every file of which was verified just now. It stays there until :meth:`release`.

        :raises RegistryUnavailableError: the files can't be had now
        :raises ModelRejectedError: they are not what the digest promises
        """
        final = self.cache_dir / ref.digest
        self._uses.hold(ref.digest)
        try:
            if not self._intact(final, ref):
                self._download(ref, final)
            os.utime(final)
        except BaseException:
            self.release(ref)
            raise
        self._evict()
        return final

    def release(self, ref: ModelRef) -> None:
        """This process reads the version's files no more; what it has mapped already stays readable."""
        self._uses.release(ref.digest)

    def files(self, ref: ModelRef) -> FileList | None:
        """What :meth:`fetch` verified of the version; None where it was not fetched by this process."""
        return self._lists.get(ref.digest)

    def _intact(self, directory: Path, ref: ModelRef) -> bool:
        if not directory.is_dir():
            return False
        try:
            self._lists[ref.digest] = verify(directory, ref.digest)
        except ModelRejectedError as error:
            log.warning("cached copy of %s is damaged and fetched anew: %s", ref.key, error)
            shutil.rmtree(directory, ignore_errors=True)
            return False
        return True

    def _download(self, ref: ModelRef, final: Path) -> None:
        started = time.monotonic()
        self.cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.cache_dir, prefix=".part-") as folder, self._http() as http:
            part = Path(folder) / "model"
            files = self._list(http, ref)
            for name, entry in files.files.items():
                self._file(http, ref, name, entry, part / name)
            _move(part, final)
        self._lists[ref.digest] = files
        log.info("fetched %s: %d files, %.1f MB, %.2f s", ref.key, len(files.files), files.size / 1e6, time.monotonic() - started)

    def _list(self, http: httpx.Client, ref: ModelRef) -> FileList:
        with self._open(http, ref, LIST_NAME) as answer:
            data = b""
            for chunk in answer.iter_bytes(CHUNK):
                data += chunk
                if len(data) > MAX_LIST_BYTES:
                    raise ModelRejectedError(f"{ref.key}: {LIST_NAME} is larger than {MAX_LIST_BYTES} bytes")
        files = FileList.from_json(data)
        if files.digest != ref.digest:
            raise ModelRejectedError(f"{ref.key}: {LIST_NAME} has digest {files.digest[:12]}…, the version says {ref.digest[:12]}…")
        return files

    def _file(self, http: httpx.Client, ref: ModelRef, name: str, entry: FileEntry, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        received, give_up_at = 0, time.monotonic() + limit_for(entry.size, self.timeout_s)
        with self._open(http, ref, name) as answer, path.open("wb") as file:
            for chunk in answer.iter_bytes():
                received += len(chunk)
                if time.monotonic() > give_up_at:
                    raise RegistryUnavailableError(f"{ref.key}: {name} comes too slowly, {received} of {entry.size} bytes so far")
                if received > entry.size:
                    break
                file.write(chunk)
        if received != entry.size:
            raise ModelRejectedError(f"{ref.key}: {name} is {'longer' if received > entry.size else 'shorter'} than its {entry.size} bytes")
        if sha256_of(path) != entry.sha256:
            raise ModelRejectedError(f"{ref.key}: {name} does not have the sha256 that {LIST_NAME} says")

    def _http(self) -> httpx.Client:
        return httpx.Client(timeout=self.timeout)

    @contextmanager
    def _open(self, http: httpx.Client, ref: ModelRef, name: str) -> Iterator[httpx.Response]:
        try:
            with http.stream("GET", f"{self._address(ref)}/{quote(name)}") as answer:
                if answer.status_code == 404:
                    raise ModelRejectedError(f"{ref.key}: {ref.source} has no file {name}")
                answer.raise_for_status()
                yield answer
        except httpx.HTTPError as error:
            raise RegistryUnavailableError(f"can't read {ref.source}/{name} from {self.uri}: {error or type(error).__name__}") from error

    def _address(self, ref: ModelRef) -> str:
        return artifacts_url(self.uri, ref)

    def _evict(self) -> None:
        if self.max_bytes is not None:
            with self._evicting:
                self._evict_to(self.max_bytes)

    def _evict_to(self, max_bytes: int) -> None:
        versions = sorted(
            (path for path in self.cache_dir.iterdir() if path.is_dir() and not path.name.startswith(".")),
            key=lambda path: path.stat().st_mtime,
        )
        sizes = {path: sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) for path in versions}
        for path in versions:
            if sum(sizes.values()) <= max_bytes:
                return
            with self._uses.unused(path.name) as unused:
                if unused:
                    size = sizes.pop(path)
                    shutil.rmtree(path, ignore_errors=True)
                    log.info("evicted %s, %.1f MB, from %s", path.name[:12], size / 1e6, self.cache_dir)


def _move(part: Path, final: Path) -> None:
    try:
        part.rename(final)
    except OSError:
        # Another process was faster; what it put there passed the same checks.
        if not final.is_dir():
            raise
