"""Messages on which the scheduler failed: set aside after the second time, instead of restarting the job for ever.

A failure that nobody foresaw must end the attempt, because memory may be half changed; the restart makes it whole from the checkpoint.
Then the same message comes again. A TaskManager keeps its modules between the attempts of a job, so the next attempt finds here what the
one before failed on. With a new TaskManager the counting begins anew.
"""

from __future__ import annotations

from hashlib import blake2b

#: The first failure may have been bad luck, as when memory ran out.
MOST_FAILURES = 2
#: Messages remembered at most; each was worth a restart.
MOST_MESSAGES = 1000


class Suspects:
    """Failures by message."""

    def __init__(self) -> None:
        self._failures: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._failures)

    def failed(self, message: str) -> None:
        """The scheduler raised on it."""
        if len(self._failures) >= MOST_MESSAGES:
            self._failures.clear()
        key = _digest(message)
        self._failures[key] = self._failures.get(key, 0) + 1

    def is_poison(self, message: str) -> bool:
        return self._failures.get(_digest(message), 0) >= MOST_FAILURES


def _digest(message: str) -> bytes:
    return blake2b(message.encode("utf-8", "surrogatepass"), digest_size=16).digest()


#: Of all jobs in this process.
SUSPECTS = Suspects()
