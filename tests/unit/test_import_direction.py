"""Each room imports only what the table in docs/architecture.md lets it, so that decisions stay free of frameworks and I/O."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("include", "models", "flink_jobs", "dags", "plugins", "tests")
FRAMEWORKS = ("airflow", "pyflink")

#: room → prefixes of our modules that it may import besides itself
ROOMS = {
    "include/contracts": (),
    "include/scheduling": ("include.contracts", "include.routing", "include.native"),
    "include/routing": ("include.contracts", "include.scheduling"),
    "include/simulation": ("include.contracts", "include.scheduling", "include.routing"),
    "include/planning": (
        "include.contracts",
        "include.scheduling",
        "include.simulation",
        "include.autoscale",
        "include.client",
        "include.config",
    ),
    "include/autoscale": ("include.contracts", "include.config", "include.client", "include.platform"),
    "include/storage": ("include.contracts", "include.config"),
    "include/registry": ("include.contracts", "include.config", "include.storage"),
    "include/client": ("include.contracts", "include.config", "include.storage"),
    # What a training sample is belongs to the training; the dataset produces such samples.
    "include/dataset": ("include.contracts", "include.config", "include.storage", "models.training.samples"),
    "include/evaluation": ("include.contracts", "include.config", "include.storage", "include.registry", "include.dataset", "models"),
    "include/worker": ("include.contracts", "include.config", "include.storage", "include.registry", "models"),
    "include/gateway": ("include.contracts", "include.config", "include.catalog", "include.client", "include.storage", "include.registry"),
    "models": ("include.contracts",),
    "flink_jobs": ("include.contracts", "include.scheduling", "include.routing", "include.config"),
}


def imported(source: str) -> Iterator[str]:
    """Every module that the source names in an import, also inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def within(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes)


def wrong_imports(path: Path, source: str) -> list[str]:
    name = path.as_posix()
    rooms = [room for room in ROOMS if name.startswith(f"{room}/")]
    found = []
    for module in imported(source):
        top = module.split(".")[0]
        if name.startswith("include/") and top in FRAMEWORKS:
            found.append(f"{name} imports the framework {module}")
        if not name.startswith("tests/") and top == "tests":
            found.append(f"{name} imports {module}")
        if name.startswith("include/") and top in ("dags", "plugins", "flink_jobs"):
            found.append(f"{name} imports {module}, which is wiring")
        found += [
            f"{name} imports {module}" for room in rooms if top in OURS and not within(module, (room.replace("/", "."), *ROOMS[room]))
        ]
    return found


def source_files() -> list[Path]:
    return sorted(path for top in ("include", "models", "flink_jobs", "dags", "plugins") for path in (ROOT / top).rglob("*.py"))


def test_every_room_keeps_to_its_doors() -> None:
    files = source_files()
    assert len(files) > 50
    found = [line for path in files for line in wrong_imports(path.relative_to(ROOT), path.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("include/scheduling/x.py", "from include.storage import base"),
        ("include/scheduling/x.py", "import include.config"),
        ("include/storage/x.py", "def f():\n    import airflow.sdk"),
        ("include/gateway/x.py", "from flink_jobs import route_requests"),
        ("models/x.py", "from include.registry import models"),
        ("flink_jobs/x.py", "from include.gateway.app import create_app"),
        ("include/contracts/x.py", "from models.networks import unet"),
        ("models/x.py", "from tests.support import waiting"),
    ],
)
def test_a_wrong_door_is_found(path: str, source: str) -> None:
    assert wrong_imports(Path(path), source)


def test_the_right_doors_are_open() -> None:
    assert not wrong_imports(
        Path("flink_jobs/x.py"), "import pyflink\nfrom include.config import Settings\nfrom include.routing import parse"
    )
    assert not wrong_imports(Path("include/routing/x.py"), "from include.contracts.requests import Tier")
