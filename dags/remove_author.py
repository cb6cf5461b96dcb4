"""### An author's images → every dataset without them

`affected` lists in its log which dataset versions hold images of the author, and which model versions were trained on those. That is all
unless `apply` is ticked: then `publish` makes the next version of each dataset without them, and no later version takes their images.

Versions that are there stay as they are until `maintain_platform` takes them. Train the listed models again on the new versions.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import dag, task

from include.config import settings
from plugins import params
from plugins.assets import DATASETS
from plugins.task_defaults import TASK_DEFAULTS

PARAMS = {
    "author": params.text("The author as credited; of several names in a credit, one.", 200),
    "apply": params.tick("Publish the next versions without the author; without it nothing is changed."),
}


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args=TASK_DEFAULTS,
    tags=["atelier", "data"],
    doc_md=__doc__,
    params=PARAMS,
)
def remove_author() -> None:
    @task
    def affected(params: Any = None) -> list[str]:
        from include.lifecycle import author_removal

        lines = list(author_removal.affected_lines(settings(), params["author"]))
        print("\n".join(lines))
        return lines

    @task.short_circuit
    def wanted(params: Any = None) -> bool:
        return bool(params["apply"])

    @task(outlets=[DATASETS])
    def publish(params: Any = None, run_id: Any = None, outlet_events: Any = None) -> list[str]:
        from include.lifecycle import author_removal, preparation

        made = author_removal.remove(settings(), params["author"])
        for version in made:
            preparation.log_version(settings(), version, f"{run_id} {version.version}")
        outlet_events[DATASETS].extra = {"versions": [version.version for version in made]}
        return [version.version for version in made]

    affected() >> wanted() >> publish()


remove_author()
