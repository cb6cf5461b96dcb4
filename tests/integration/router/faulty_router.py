"""The router job with a scheduler that raises on one prompt, as a fault that nobody foresaw would."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from flink_jobs import functions, route_requests

PROMPT = "what nobody foresaw"


class FaultySchedule(functions.ScheduleRequests):
    def open(self, runtime_context: Any) -> None:
        super().open(runtime_context)
        take = self._router.request

        def request(text: str | None, *rest: Any) -> Any:
            if PROMPT in (text or ""):
                raise ZeroDivisionError(PROMPT)
            return take(text, *rest)

        self._router.request = request


if __name__ == "__main__":
    route_requests.functions = SimpleNamespace(**{**vars(functions), "ScheduleRequests": FaultySchedule})
    route_requests.main()
