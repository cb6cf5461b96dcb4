"""Becomes a service's command, after ending what the service's last process left: ``python -m include.platform.launch COMMAND...``

A server whose main process was killed may leave a child behind that still holds the port; its successor would then fail to start for
ever. Runs under the supervisor, once at each start, and so imports little.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from include.platform.processes import SERVICE_VARIABLE, end_processes


def main() -> None:
    left = end_processes(Path(os.environ["ATELIER_HOME"]), [os.environ[SERVICE_VARIABLE]], grace_s=3.0)
    if left:
        print("ended what the last process left behind", flush=True)
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
