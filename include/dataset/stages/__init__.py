"""What happens to images, stage by stage. Each stage is a function from an Arrow table to the rows that go on and those that don't.

:data:`IMAGE_STAGES` are the ones a shard goes through; captions, licences, duplicates and splits need no pixels and are decided when a
version is published.
"""

from __future__ import annotations

from include.dataset.stages.batches import Stage, Staged, run_stages
from include.dataset.stages.classifying import classify
from include.dataset.stages.decoding import decode_images
from include.dataset.stages.encoding import encode_images
from include.dataset.stages.headers import check_headers
from include.dataset.stages.measuring import measure
from include.dataset.stages.reading import read_files
from include.dataset.stages.rejection import RejectedError

IMAGE_STAGES: tuple[Stage, ...] = (read_files, check_headers, decode_images, measure, classify, encode_images)

__all__ = ["IMAGE_STAGES", "RejectedError", "Stage", "Staged", "run_stages"]
