"""How a training process ends, as its exit status says it."""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    DONE = 0  #: the last step was made and the model exported
    FAILED = 1  #: something about the surroundings, such as a full disk; the same command goes on
    INVALID = 2  #: settings or input that no repetition makes right
    INTERRUPTED = 3  #: told to stop; the same command goes on from the checkpoint
    DIVERGED = 4  #: a loss or gradient was no finite number; the checkpoints before stay
    TAKEN = 5  #: another trainer has the output directory


#: Ends that the same command would only come to again.
FINAL = frozenset({ExitStatus.INVALID, ExitStatus.DIVERGED})
