"""### A model version → smaller and faster variants, measured

Makes variants of a version: other number formats, pruned, distilled, or run by ONNX Runtime and OpenVINO. Each is built, saved, loaded
again by a process of its own and measured there, alone: size, memory, load time, latency, and the quality of its images. One that is
smaller but slower, or worse than allowed, is marked so and not offered; one that this machine can't have says why.

Table, Pareto plot and page are in MLflow, experiment `compression`; the summary is the version's tag `atelier.compression`. What was
measured of a version is not measured again.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import Param, dag, task

from include.config import settings
from models.compression.kinds import KINDS, ORIGINAL
from plugins import params
from plugins.assets import COMPRESSIONS
from plugins.operators.measure_variant import MeasureVariantOperator
from plugins.task_defaults import TASK_DEFAULTS

CHOICES = [name for name in KINDS if name != ORIGINAL]
PARAMS = {
    "model": params.model(),
    "version": params.version("Version to compress; empty is the newest."),
    "dataset_version": params.dataset_version("whose captions are rendered; empty is the one it was trained on"),
    "variants": params.several(CHOICES, "; ".join(f"{name}: {KINDS[name].what}" for name in CHOICES) + "."),
    "images": params.number(64, 4, 10_000, "Captions that are rendered; more make the quality surer."),
    "steps": params.number(0, 0, 200, "Denoising steps of all variants; 0: what each is made for."),
    "side": Param(0, type="integer", minimum=0, maximum=4096, multipleOf=16, description="Pixels; 0: the version's own size."),
    "batch": params.number(8, 1, 256, "Images rendered at a time while the quality is measured."),
    "repeats": params.number(20, 2, 1000, "Renders of one image that are timed."),
    "seed": params.number(0, 0, 2**31 - 1, "Chooses captions and noise."),
    "device": Param("cpu", type="string", pattern="^(cpu|cuda:[0-9]{1,2})$", maxLength=8, description="cpu or cuda:N."),
    "threads": params.number(2, 1, 256, "CPU threads."),
    "quality_worse_pct": params.percent(10, "Growth allowed to the kernel distance from real images."),
    "images_differ_pct": params.percent(2, "Pixel difference allowed, of the range, to variants with the version's own weights."),
    "slower_pct": params.percent(5, "Growth allowed to the median seconds of an image."),
    "timeout_minutes": params.number(30, 1, 1440, "Longest that building, or measuring, one variant may take."),
    "again": params.tick("Build and measure also what was measured before."),
    "register_offered": params.tick("Register offered variants that any worker can load as versions of MODEL-VARIANT."),
}


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args=TASK_DEFAULTS,
    tags=["atelier", "compression"],
    doc_md=__doc__,
    params=PARAMS,
)
def compress_model() -> None:
    @task
    def plan_sweep(params: Any = None, run_id: Any = None) -> list[dict[str, str]]:
        from include.lifecycle import compression

        plan = compression.plan_sweep(settings(), params, run_id)
        return [{"sweep": str(plan.directory), "variant": name} for name in plan.variants]

    @task(outlets=[COMPRESSIONS])
    def report(jobs: list[dict[str, str]], params: Any = None, run_id: Any = None, outlet_events: Any = None) -> dict[str, Any]:
        from pathlib import Path

        from include.lifecycle import compression
        from models.compression.plan import SweepPlan

        found = compression.report_sweep(settings(), SweepPlan.read(Path(jobs[0]["sweep"])), params, run_id)
        outlet_events[COMPRESSIONS].extra = {name: found[name] for name in ("model", "version", "best", "offered")}
        return found

    jobs: Any = plan_sweep()
    measured = MeasureVariantOperator.partial(task_id="measure_variant", map_index_template="{{ task.job['variant'] }}").expand(job=jobs)
    measured >> report(jobs)


compress_model()
