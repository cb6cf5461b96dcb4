"""The compiled form of packages that decide thousands of times a second: the same sources, compiled with mypyc.

``python -m include.native`` builds it into :data:`FOLDER`, where a C compiler is at hand. :func:`use` takes it only while it is of the
sources as they are: an edit takes effect at once, at the interpreter's speed, until it is built again. Nothing depends on it but speed.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".native"
PACKAGES = ("include.scheduling",)
#: What the packages import of ours; it stays interpreted, but mypyc reads its types.
_READ = ("include/contracts", "include/routing", "include/native.py", "pyproject.toml")


def use(package: str, path: list[str], folder: Path = FOLDER) -> bool:
    """Lets the package's modules be loaded in their compiled form, if that is of the present sources; says whether.

    :param path: the package's ``__path__``, to which it is added; sources that are edited or added since are loaded as they are
    """
    compiled = folder.joinpath(*package.split("."))
    if not _is_of(compiled, Path(path[0])):
        return False
    path.insert(0, str(compiled))
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # where the library is that its modules share
    return True


def _is_of(compiled: Path, sources: Path) -> bool:
    try:
        return (compiled / "digest").read_text() == digest(sources)
    except OSError:
        return False


def digest(directory: Path) -> str:
    """Of a package's sources and of the interpreter."""
    total = hashlib.sha256(str(sys.implementation.cache_tag).encode())
    for source in sorted(directory.glob("*.py")):
        total.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return total.hexdigest()


def fresh() -> bool:
    """Whether there is nothing to build."""
    return all(_is_of(FOLDER.joinpath(*package.split(".")), _sources(package)) for package in PACKAGES)


def build() -> None:
    """Raises :class:`RuntimeError` where it can't be compiled; what was built before stays then."""
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        raise RuntimeError("no C compiler (cc) on PATH; Debian: apt install gcc")
    digests = {package: digest(_sources(package)) for package in PACKAGES}
    with tempfile.TemporaryDirectory(prefix="atelier-native-") as place:
        work = Path(place) / "sources"
        modules = _copied(work)
        command = [str(Path(sys.executable).with_name("mypyc")), *modules]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"mypyc ended with {done.returncode}:\n{(done.stderr or done.stdout)[-2000:]}")
        built = Path(place) / "built"
        for library in work.rglob("*.so"):
            if library.relative_to(work).parts[0] != "build":
                target = built / library.relative_to(work)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(library, target)
        for package, of in digests.items():
            built.joinpath(*package.split("."), "digest").write_text(of)
        shutil.rmtree(FOLDER, ignore_errors=True)
        shutil.move(built, FOLDER)


def _sources(package: str) -> Path:
    return ROOT.joinpath(*package.split("."))


def _copied(work: Path) -> list[str]:
    """Copies what is compiled, since mypyc leaves its results beside the sources; returns the modules."""
    packages = [package.replace(".", "/") for package in PACKAGES]
    for name in (*packages, *_READ):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, work / name)  # type: ignore[operator]
    shutil.copy(ROOT / "include/__init__.py", work / "include")
    return [str(path.relative_to(work)) for name in packages for path in sorted((work / name).glob("*.py")) if path.name != "__init__.py"]


def main() -> int:
    if fresh():
        return 0
    print(f"compiling {', '.join(PACKAGES)} with mypyc; a minute", flush=True)
    began = time.monotonic()
    try:
        build()
    except RuntimeError as error:
        print(f"not compiled: {error}\nIt runs interpreted: the same decisions, about a third fewer a second.", file=sys.stderr)
        return 0
    print(f"compiled in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
