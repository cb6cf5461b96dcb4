"""``python -m include.worker --pool standard --worker-id worker-0 --device cpu``"""

from __future__ import annotations

import typer

from include.worker.cli import worker

if __name__ == "__main__":
    typer.run(worker)
