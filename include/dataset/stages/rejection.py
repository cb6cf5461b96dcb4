"""Why a sample is not in a dataset."""

from __future__ import annotations


class RejectedError(Exception):
    """A sample that can't be used; says at which stage and why."""

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(f"{stage}: {reason}")
        self.stage, self.reason = stage, reason[:300]
