"""Putting dead letters back, and remembering which."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from include.client.dead_letters import Redrive
from include.client.errors import DeliveryError
from include.client.producer import TopicProducer
from include.config import Settings

AT_ONCE = 100


class RedriveBusyError(RuntimeError):
    """Another redrive of this installation is under way."""


class RedriveLog:
    """Which letters were sent again: a line each in ``HOME/redriven.jsonl``.

    **Why a file.** The topic of dead letters can't be marked: it is kept by time, not compacted, and a message on it can't be changed. A
    consumer group's offset says "everything before this", but what an operator picks by tenant or reason leaves holes. A file holds
    any choice, and anybody can read it.

    **What if it is lost, or on another machine.** The events tell as well: an id that was accepted after its letter, or one of its
    ``ID-rN``, went on. And where a letter is sent twice before the router has read the first, both have the same id, so the router
    answers the second as a repeat. The file saves the second letter; no image depends on it.

    As a context it lets in one redrive at a time; raises :class:`RedriveBusyError`.
    """

    def __init__(self, settings: Settings) -> None:
        self.path = settings.home / "redriven.jsonl"
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise RedriveBusyError(f"another redrive is under way: {self.path} is locked") from error
        self._file = file
        if _is_torn(self.path):
            file.write("\n")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def sent(self) -> dict[str, str]:
        """The id under which it was sent, by a letter's key. A line that a crash cut off counts as not sent."""
        found: dict[str, str] = {}
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else ():
            try:
                entry = json.loads(line)
                found[entry["letter"]] = entry["sent_as"]
            except (ValueError, KeyError, TypeError):
                continue  # said in the docstring
        return found

    def add(self, redrive: Redrive) -> None:
        assert self._file is not None, "only inside the context"
        entry = {"letter": redrive.found.key, "sent_as": redrive.request_id, "at": round(time.time(), 3)}
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Returns once what was added survives a power cut."""
        assert self._file is not None, "only inside the context"
        os.fsync(self._file.fileno())


def _is_torn(path: Path) -> bool:
    content = path.read_bytes()
    return bool(content) and not content.endswith(b"\n")


@dataclass(kw_only=True)
class Outcome:
    sent: list[Redrive] = field(default_factory=list)
    failed: list[tuple[Redrive, str]] = field(default_factory=list)  #: with what the broker said


def send(redrives: Sequence[Redrive], producer: TopicProducer, log: RedriveLog) -> Outcome:
    """Puts each on the topic it came from, keyed by its id as every producer's requests are; remembers what was acknowledged."""
    outcome = Outcome()
    for start in range(0, len(redrives), AT_ONCE):
        some = redrives[start : start + AT_ONCE]
        futures = [(one, producer.post(one.found.letter.source_topic, one.value, one.request_id)) for one in some]
        for one, future in futures:
            try:
                future.result()
            except DeliveryError as error:
                outcome.failed.append((one, str(error)))
                continue
            log.add(one)
            outcome.sent.append(one)
        log.sync()
    return outcome
