"""The cache of fetched versions: what it keeps, what it deletes, what it must not delete."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from include.contracts.dispatch import ModelRef
from include.registry.errors import ModelRejectedError, RegistryUnavailableError
from include.registry.fetch import ModelFetcher
from include.registry.files import LIST_NAME, list_files
from include.registry.uses import Uses

SIZE = 10_000


class Served(ModelFetcher):
    """Reads versions from a directory each instead of a server; everything else is the fetcher's own."""

    def __init__(self, root: Path, max_bytes: int | None) -> None:
        super().__init__(root / "models", "http://mlflow", max_bytes=max_bytes)
        self.root = root
        self.requests = 0

    def _http(self) -> httpx.Client:
        return httpx.Client(transport=httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        name, _, file = request.url.path.partition("/artifacts/")[2].partition("/")
        directory = self.root / "source" / name
        if file == LIST_NAME:
            return httpx.Response(200, content=list_files(directory).to_json())
        return httpx.Response(200, content=(directory / file).read_bytes())

    def version(self, name: str) -> ModelRef:
        directory = self.root / "source" / name
        directory.mkdir(parents=True)
        (directory / "weights.safetensors").write_bytes(name[:1].encode() * SIZE)
        return ModelRef(name="m", version=name, digest=list_files(directory).digest, source=f"mlflow-artifacts:/{name}")


def used_at(path: Path, at: float) -> None:
    os.utime(path, (at, at))


def test_what_was_used_least_recently_goes_once_there_is_too_much(tmp_path: Path) -> None:
    fetcher = Served(tmp_path, max_bytes=2 * SIZE)
    paths = []
    for number, name in enumerate("abc"):
        ref = fetcher.version(name)
        paths.append(fetcher.fetch(ref))
        used_at(paths[-1], number)
        fetcher.release(ref)
    assert [path.exists() for path in paths] == [False, True, True]


def test_what_is_in_use_stays_whatever_its_age(tmp_path: Path) -> None:
    fetcher = Served(tmp_path, max_bytes=SIZE)
    held, loose, newest = (fetcher.version(name) for name in "abc")
    kept, gone = fetcher.fetch(held), fetcher.fetch(loose)
    fetcher.release(loose)
    used_at(kept, 1)
    assert fetcher.fetch(newest).exists() and kept.exists() and not gone.exists()


def test_another_process_holds_it_until_it_ends(tmp_path: Path) -> None:
    fetcher = Served(tmp_path, max_bytes=SIZE)
    first, second = fetcher.version("a"), fetcher.version("b")
    path = fetcher.fetch(first)
    fetcher.release(first)
    script = "import sys\nfrom pathlib import Path\nfrom include.registry.uses import Uses\n"
    script += "Uses(Path(sys.argv[1])).hold(sys.argv[2])\nprint('held', flush=True)\nsys.stdin.read()"
    command = [sys.executable, "-c", script, str(tmp_path / ".models.locks"), first.digest]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        fetcher.fetch(second)
        assert path.exists()
        other.kill()
        other.wait(30)
    fetcher.fetch(second)
    assert not path.exists()


def test_a_failed_fetch_holds_nothing(tmp_path: Path) -> None:
    fetcher = Served(tmp_path, max_bytes=SIZE)
    ref = fetcher.version("a").model_copy(update={"digest": "0" * 64})
    with pytest.raises(ModelRejectedError):
        fetcher.fetch(ref)
    with Uses(tmp_path / ".models.locks").unused(ref.digest) as unused:
        assert unused


def test_a_file_that_comes_byte_by_byte_is_given_up(tmp_path: Path) -> None:
    class Trickling(Served):
        def _answer(self, request: httpx.Request) -> httpx.Response:
            whole = super()._answer(request)
            return whole if request.url.path.endswith(LIST_NAME) else httpx.Response(200, content=self._bytewise(whole.content))

        def _bytewise(self, data: bytes) -> Iterator[bytes]:
            for number in range(len(data)):
                threading.Event().wait(0.01)
                yield data[number : number + 1]

    fetcher = Trickling(tmp_path, max_bytes=None)
    fetcher.timeout_s = 0.2
    with pytest.raises(RegistryUnavailableError, match=r"m/a: weights\.safetensors comes too slowly, \d+ of 10000 bytes so far"):
        fetcher.fetch(fetcher.version("a"))
    assert not list((tmp_path / "models").iterdir())


def test_a_version_is_downloaded_once_and_verified_each_time(tmp_path: Path) -> None:
    fetcher = Served(tmp_path, max_bytes=None)
    ref = fetcher.version("a")
    path = fetcher.fetch(ref)
    assert fetcher.fetch(ref) == path and fetcher.requests == 2
    (path / "weights.safetensors").write_bytes(b"rotten")
    assert (fetcher.fetch(ref) / "weights.safetensors").stat().st_size == SIZE and fetcher.requests == 4
    listed = fetcher.files(ref)
    assert listed is not None and listed.digest == ref.digest


def test_who_begins_to_use_a_version_waits_while_it_is_deleted(tmp_path: Path) -> None:
    uses, begun = Uses(tmp_path), threading.Event()
    with Uses(tmp_path).unused("a") as unused:
        assert unused
        thread = threading.Thread(target=lambda: (uses.hold("a"), begun.set()))
        thread.start()
        assert not begun.wait(0.1)
    thread.join(10)
    assert begun.is_set()
