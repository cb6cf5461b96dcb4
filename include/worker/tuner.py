"""Runs the measurements of backends beside the worker, one at a time and at the lowest priority."""

from __future__ import annotations

import logging
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from include.worker.backends import Tuning
from include.worker.kept import try_lock
from include.worker.verdicts import Verdicts

log = logging.getLogger(__name__)

LIMIT_S = 900.0  #: a measurement that takes longer is given up
NICE = 19
LOCK = ".tuning"
MAX_KEPT = 32  #: models of which what was found stays on disk: each holds its weights anew, in its graphs


class Tuner:
    """:meth:`run` works off what :meth:`want` asked for. Workers of one machine share what they find: only one measures a model.

    :param on_tuned: told the digest of a model of which something new is known
    """

    def __init__(self, *, wanted: str, device: str, threads: int, on_tuned: Callable[[str], None]) -> None:
        self.wanted = wanted
        self.device = device
        self.threads = threads
        self.on_tuned = on_tuned
        self._queue: queue.Queue[Tuning] = queue.Queue()
        self._tried: set[tuple[str, int, int]] = set()

    def want(self, tuning: Tuning) -> None:
        """Each model and size once in the life of the worker, so that one that can't be measured is not tried for ever."""
        key = (tuning.digest, tuning.width, tuning.height)
        if key not in self._tried:
            self._tried.add(key)
            self._queue.put(tuning)

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            with suppress(queue.Empty):
                tuning = self._queue.get(timeout=0.5)
                try:
                    self._tune(tuning, stop)
                except OSError as error:  # a full disk, or no process to be had
                    log.warning("backends of %s are not measured, torch-eager stays: %s", tuning.digest[:12], error)

    def _tune(self, tuning: Tuning, stop: threading.Event) -> None:
        tuning.folder.mkdir(parents=True, exist_ok=True)
        with (tuning.folder / LOCK).open("w") as lock:
            while not try_lock(lock.fileno()):
                if stop.wait(0.5):
                    return
            done = Verdicts(tuning.folder).has(tuning.width, tuning.height, self.wanted) or self._measure(tuning, stop)
        if done and not stop.is_set():
            self.on_tuned(tuning.digest)
            forget_old(tuning.folder.parent)

    def _measure(self, tuning: Tuning, stop: threading.Event) -> bool:
        log.info("measuring backends for %s at %dx%d", tuning.digest[:12], tuning.width, tuning.height)
        said: list[str] = []
        with _started(self._command(tuning)) as process:
            reader = threading.Thread(target=self._read, args=(process, said))
            reader.start()
            code = _wait(process, stop)
            reader.join()
        if code:
            log.warning("backends of %s are not measured, torch-eager stays: %s", tuning.digest[:12], said[-1] if said else code)
        return code == 0

    def _read(self, process: subprocess.Popen[str], said: list[str]) -> None:
        for line in process.stderr or ():
            said.append(line.strip())
            log.info("backends: %s", line.strip())

    def _command(self, tuning: Tuning) -> list[str]:
        options = {
            "directory": tuning.directory,
            "folder": tuning.folder,
            "device": self.device,
            "threads": self.threads,
            "width": tuning.width,
            "height": tuning.height,
            "wanted": self.wanted,
        }
        return [sys.executable, "-m", "include.worker.tuning", *(f"--{name}={value}" for name, value in options.items())]


def forget_old(folder: Path) -> None:
    """Of the models whose findings are in ``folder``, the ones measured longest ago go; what still runs of them has it open."""
    models = sorted((path.parent for path in folder.glob(f"*/{LOCK}")), key=lambda path: path.stat().st_mtime)
    for path in models[:-MAX_KEPT]:
        shutil.rmtree(path, ignore_errors=True)


def _started(command: list[str]) -> subprocess.Popen[str]:
    """Its input stays open as long as this process lives."""
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=_lowest,
        text=True,
        errors="replace",
    )


def _wait(process: subprocess.Popen[str], stop: threading.Event) -> int:
    """The exit code; the process is ended where ``stop`` is set or it takes too long."""
    waited = 0.0
    while waited < LIMIT_S and not stop.is_set():
        with suppress(subprocess.TimeoutExpired):
            return process.wait(0.5)
        waited += 0.5
    process.kill()
    return process.wait()


def _lowest() -> None:
    os.nice(NICE)
