from __future__ import annotations

from include.demo.observer import Seen
from include.demo.previews import Frame, as_text, progress_of
from tests.unit.include.demo.worker_stage import jpeg, processing, request


def test_a_picture_for_a_terminal_has_two_pixels_a_character() -> None:
    text = as_text(Frame(request_id="r", step=1, steps=2, data=jpeg("white")), columns=8)
    assert text.plain == "▀▀▀▀▀▀▀▀\n" * 4
    assert {span.style for span in text.spans} == {"#ffffff on #ffffff"}


def test_a_dispatch_is_no_progress() -> None:
    planned, seen = request("watched"), Seen()
    seen.events["test-watched"] += [processing(planned, "worker-0"), processing(planned, "worker-0", step=32)]
    assert [event.progress.step for event in progress_of(seen, "test-watched") if event.progress] == [32]
    assert progress_of(seen, "another") == []
