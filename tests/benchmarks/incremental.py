"""The work of adding one image to a dataset of 4,000, beside the work of making it.

Work is CPU time of all processes between the call and the published version, without the interpreter's start and imports; shards,
duplicates, Parquet files, manifest and report are all part of it. ``work_ratio``: the added image's run over the full run, the
median of several images added one after another. ``same_digest``: a run from nothing over the same files gives the version that the last
step gave.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.support.emoji_files import add, emoji_folder, linked

_RUN = """
import json, os, sys, time
from pathlib import Path
from include.dataset.__main__ import prepare_dataset
from include.dataset.config import DatasetConfig
import include.dataset.report, numpy.linalg, pyarrow, PIL.Image
pyarrow.array(["imports pandas"]), PIL.Image.preinit()
config = DatasetConfig(name="bench", source="folder", path=sys.argv[2], size=256, image_format="jpeg", near_duplicates="group")
before = os.times()
version = prepare_dataset(config, Path(sys.argv[1]))
after = os.times()
work = {"cpu_s": sum(after[:4]) - sum(before[:4]), "wall_s": after[4] - before[4]}
print(json.dumps({**work, "digest": version.digest, "counts": version.counts}))
"""


def run(root: Path, folder: Path) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", _RUN, str(root), str(folder)], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{sum(found['counts'].values())} samples: {found['cpu_s']:.2f} s of CPU, {found['wall_s']:.2f} s", file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--added", type=int, default=3)
    arguments = parser.parse_args()
    more = sorted(emoji_folder().glob("*.png"))[arguments.images : arguments.images + arguments.added]
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as scratch:
        folder, root = linked(Path(scratch) / "images", arguments.images), Path(scratch) / "root"
        full = run(root, folder)
        steps = []
        for image in more:
            add(folder, image)
            steps.append(run(root, folder))
        again = run(Path(scratch) / "again", folder)
    added = statistics.median(step["cpu_s"] for step in steps)
    same = again["digest"] == steps[-1]["digest"]
    figures = {"full_cpu_s": round(full["cpu_s"], 2), "added_cpu_s": round(added, 3), "added_wall_s": round(steps[-1]["wall_s"], 2)}
    print(json.dumps({"work_ratio": round(added / full["cpu_s"], 4), **figures, "same_digest": same, "images": arguments.images}))


if __name__ == "__main__":
    main()
