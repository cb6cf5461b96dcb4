from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

import include.scheduling
import include.scheduling.cell
from include import native
from include.contracts.defaults import default_policy
from include.scheduling.scheduler import Scheduler
from include.scheduling.store import StateStore, Table

PACKAGE = "some.package"


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "some" / "package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "one.py").write_text("ONE = 1\n")
    return folder


@pytest.fixture
def compiled(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As a build of those sources leaves it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = tmp_path / "native"
    (folder / "some" / "package").mkdir(parents=True)
    (folder / "some" / "package" / "digest").write_text(native.digest(sources))
    return folder


def test_what_is_of_the_present_sources_is_found_first(sources: Path, compiled: Path) -> None:
    path = [str(sources)]
    assert native.use(PACKAGE, path, compiled)
    assert path == [str(compiled / "some" / "package"), str(sources)]
    assert str(compiled) in sys.path


@pytest.mark.parametrize("change", ["edited", "added", "removed"])
def test_what_is_of_other_sources_is_not_used(change: str, sources: Path, compiled: Path) -> None:
    if change == "edited":
        (sources / "one.py").write_text("ONE = 2\n")
    elif change == "added":
        (sources / "two.py").write_text("")
    else:
        (sources / "one.py").unlink()
    path = [str(sources)]
    assert not native.use(PACKAGE, path, compiled)
    assert path == [str(sources)] and str(compiled) not in sys.path


def test_without_a_build_the_sources_are_used(sources: Path, tmp_path: Path) -> None:
    path = [str(sources)]
    assert not native.use(PACKAGE, path, tmp_path / "nothing")
    assert path == [str(sources)]


def test_without_a_compiler_it_says_so_and_ends_well(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(native, "fresh", lambda: False)
    monkeypatch.setenv("PATH", "")
    assert native.main() == 0
    assert "no C compiler" in capsys.readouterr().err


def test_the_scheduler_is_of_the_form_that_it_says() -> None:
    origin = Path(str(include.scheduling.cell.__file__))
    assert (native.FOLDER in origin.parents) == include.scheduling.COMPILED


def test_a_store_may_be_written_elsewhere() -> None:
    """Flink's adapter is interpreted in any case, and a compiled class must allow that."""

    class Written(StateStore):
        def __init__(self) -> None:
            self.content: dict[str, str] = {}

        def put(self, table: Table, key: str, value: str) -> None:
            self.content[key] = value

        def remove(self, table: Table, key: str) -> None:
            self.content.pop(key)

        def items(self, table: Table) -> Iterable[tuple[str, str]]:
            return self.content.items()

    store = Written()
    scheduler = Scheduler(cell="cell-0", pools=frozenset({"standard"}), store=store)
    scheduler.on_control(default_policy(), default_policy().to_json().decode(), 0.0)
    assert store.content
