from __future__ import annotations

import pytest

from include.contracts.requests import ImageFormat
from include.gateway.edge.limits import RateLimit
from include.gateway.edge.rights import PARKED_TYPE, LeaseRights, looks_like
from tests.support.leases import render_task

RIGHTS = LeaseRights.of(
    [render_task("r-1", images=2), render_task("r-2", image_format=ImageFormat.WEBP, init_image="uploads/acme/start.png", strength=0.5)]
)


@pytest.mark.parametrize(
    ("key", "reads", "creates", "replaces"),
    [
        ("images/acme/r-1/0.png", True, "image/png", None),
        ("images/acme/r-1/1.png", True, "image/png", None),
        ("images/acme/r-1/2.png", False, None, None),
        ("images/acme/r-1/0.webp", False, None, None),
        ("images/acme/r-2/0.webp", True, "image/webp", None),
        ("images/other/r-1/0.png", False, None, None),
        ("images/acme/r-3/0.png", False, None, None),
        ("previews/acme/r-1.jpg", True, "image/jpeg", "image/jpeg"),
        ("parked/acme/r-1.safetensors", True, PARKED_TYPE, PARKED_TYPE),
        ("uploads/acme/start.png", True, None, None),
        ("uploads/acme/other.png", False, None, None),
        ("datasets/manifest.json", False, None, None),
    ],
)
def test_a_key_is_open_as_far_as_a_lease_needs_it(key: str, reads: bool, creates: str | None, replaces: str | None) -> None:
    assert (RIGHTS.may_read(key), RIGHTS.creates(key), RIGHTS.replaces(key)) == (reads, creates, replaces)


@pytest.mark.parametrize(
    ("data", "media_type", "fits"),
    [
        (b"\x89PNG\r\n\x1a\n....", "image/png", True),
        (b"\xff\xd8\xff\xe0....", "image/jpeg", True),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 ", "image/webp", True),
        (b"RIFF\x10\x00\x00\x00WAVEfmt ", "image/webp", False),
        (b"<script>alert(1)</script>", "image/png", False),
        (b"", "image/jpeg", False),
        (b"anything", PARKED_TYPE, True),
    ],
)
def test_bytes_that_are_no_picture_are_told_from_one(data: bytes, media_type: str, fits: bool) -> None:
    assert looks_like(data, media_type) is fits


def test_calls_past_the_burst_wait_for_the_rate() -> None:
    now = 0.0
    limit = RateLimit(rate=2.0, burst=3.0, clock=lambda: now)
    assert [limit.wait_s("a") for _ in range(3)] == [0.0, 0.0, 0.0]
    assert limit.wait_s("a") == 0.5
    assert limit.wait_s("b") == 0.0
    now = 0.5
    assert limit.wait_s("a") == 0.0
    assert limit.wait_s("a") > 0
