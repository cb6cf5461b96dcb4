"""The steps of ``compress_model``: plan a sweep over a version's variants, wait for each, judge them and record what was found."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from include.config import PROJECT_ROOT, Settings
from include.lifecycle import jobs
from include.lifecycle.training import run_directory
from models.compression.kinds import DISTILLED, chosen
from models.compression.plan import Measurement, Original, Row, State, SweepPlan
from models.compression.sweep import said

if TYPE_CHECKING:
    from include.evaluation.networks import FeatureNet  # brings torch, which planning does without

HOME = "compression"  #: in the platform's home: variants and measurements by the version's digest; may be deleted at any time
REFERENCES = "references.npy"
POLL_S = 0.3
MAX_RESTARTS = 3  #: of a sweep whose process was killed, by one waiting task
ROOM = 3  #: free bytes that a sweep must find for each byte of the version


def plan_sweep(settings: Settings, params: Mapping[str, Any], key: str, progress: Callable[[str], None] = print) -> SweepPlan:
    """Resolves version and dataset, and leaves the plan and the real images in the run's directory.

    Raises :class:`LookupError` where there is no such version or dataset, :class:`ValueError` for an unknown variant or sizes that do not
    fit, and :class:`OSError` where the disk has no room for the variants.
    """
    variants = chosen(list(params["variants"]))
    original, tags = _original(settings, params["model"], params["version"])
    home = settings.home.resolve() / HOME / original.digest
    student, missing = _student(settings, params["model"]) if DISTILLED in variants else (None, "")
    prompts, references = _references(settings, params, tags)
    plan = SweepPlan(
        directory=run_directory(settings, key),
        home=home,
        original=original,
        student=student,
        student_missing=missing,
        variants=variants,
        measurement=_measurement(params, original, prompts),
        again=params["again"],
        timeout_s=60.0 * params["timeout_minutes"],
    )
    check_room(home, original.directory)
    plan.directory.mkdir(parents=True, exist_ok=True)
    np.save(plan.directory / REFERENCES, references, allow_pickle=False)
    plan.path.write_text(plan.model_dump_json(indent=1), encoding="utf-8")
    progress(
        f"{original.label}: {', '.join(variants)}, each on {len(prompts)} images at {plan.measurement.width}x{plan.measurement.height}"
    )
    return plan


def _original(settings: Settings, model: str, version: str) -> tuple[Original, dict[str, str]]:
    """The version in a directory of the sweeps' own, where nobody makes room for others, and its tags."""
    from include.lifecycle.versions import version_or_newest
    from include.registry.fetch import ModelFetcher

    found = version_or_newest(settings, model, version)
    if found.adapter_of:
        raise ValueError(f"model: {model} is an adapter of {found.adapter_of}; compress that model")
    directory = ModelFetcher(settings.home.resolve() / HOME / "versions", settings.mlflow, max_bytes=None).fetch(found.ref)
    original = Original(directory=directory, digest=found.ref.digest, label=found.ref.key, defaults=found.defaults)
    return original, found.tags


def _student(settings: Settings, model: str) -> tuple[Original | None, str]:
    """The newest few-step student of the model, or why there is none."""
    from include.registry.client import RegistryClient
    from include.registry.tags import DISTILLED as DISTILLED_TAG

    with RegistryClient(settings.mlflow) as client:
        name = client.model(model).tags.get(DISTILLED_TAG, "")
        known = bool(name and client.versions(name))
    if not known:
        return None, f"{model} has no few-step student; run train_model with task distill_steps"
    return _original(settings, name, "")[0], ""


def _references(settings: Settings, params: Mapping[str, Any], tags: Mapping[str, str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Captions of training samples chosen by the seed, each caption once, and their images."""
    from include.lifecycle.datasets import dataset_of
    from models.training.samples import load_buckets, one_a_caption

    dataset = dataset_of(settings, params["dataset_version"], tags)
    samples = load_buckets(dataset.manifest, "train")[0]
    unique = one_a_caption(samples, params["seed"])
    captions = tuple(unique)[: params["images"]]
    if len(captions) < 4:
        raise ValueError(f"dataset_version: {dataset.version} has {len(captions)} captions to render; four are needed")
    return captions, samples.images[[unique[caption] for caption in captions]]


def _measurement(params: Mapping[str, Any], original: Original, prompts: tuple[str, ...]) -> Measurement:
    from include.worker.backends import machine_key

    side = params["side"]
    return Measurement(
        width=side or original.defaults.width,
        height=side or original.defaults.height,
        images=len(prompts),
        prompts=prompts,
        machine=machine_key(params["device"], params["threads"]),
        **{name: params[name] for name in ("steps", "batch", "repeats", "seed", "device", "threads")},
    )


def check_room(home: Path, version: Path) -> None:
    """Raises :class:`OSError` where the disk of ``home`` has no room for variants of the version."""
    home.mkdir(parents=True, exist_ok=True)
    needed = ROOM * sum(path.stat().st_size for path in version.rglob("*") if path.is_file())
    free = shutil.disk_usage(home).free
    if free < needed:
        raise OSError(f"{home}: variants of this version need {needed / 1e6:.0f} MB and the disk has {free / 1e6:.0f} MB free; make room")


def await_row(plan: SweepPlan, variant: str, environment: Mapping[str, str], progress: Callable[[str], None] = print) -> Row:
    """Starts the plan's sweep, or joins the one that runs, until it has the variant's row.

    A sweep that was killed is started again, and goes on with what is missing. Raises :class:`~include.lifecycle.jobs.JobFailedError`
    where it ended otherwise, as it does when the disk is full.
    """
    restarts = 0
    while (row := plan.row(variant)) is None:
        state = jobs.state(plan.directory)
        if state is not jobs.JobState.RUNNING and plan.row(variant) is None:
            if restarts and (state is jobs.JobState.FAILED or restarts > MAX_RESTARTS):
                raise jobs.JobFailedError(f"the sweep in {plan.directory} {state}\n" + "\n".join(jobs.tail(plan.directory)))
            restarts += 1
            if jobs.submit(plan.directory, plan.command(), environment):
                progress(f"the sweep runs in {plan.directory}; its log is job.log there")
        time.sleep(POLL_S)
    progress(f"{variant}: {said(row)}")
    return row


def job_environment() -> dict[str, str]:
    """What the sweep's process needs besides this process's environment."""
    return {"PYTHONPATH": str(PROJECT_ROOT), "HF_HUB_OFFLINE": "1"}


def measuring_network(tags: Mapping[str, str], progress: Callable[[str], None] = print) -> FeatureNet:
    """What the version with these tags was evaluated with, so that its distances and its variants' are on the same features.

    The shipped one where it was not evaluated, or where that network is gone.
    """
    from include.evaluation.networks import load_network
    from include.lifecycle.versions import facts_of

    directory = str(facts_of(tags).get("config", {}).get("network", ""))
    try:
        return load_network(directory)
    except ValueError as error:
        progress(f"{error}; the version was evaluated with it, its variants are compared by the shipped network")
        return load_network()


def _tags(settings: Settings, label: str) -> dict[str, str]:
    from include.registry.client import RegistryClient

    model, _, version = label.partition("/")
    with RegistryClient(settings.mlflow) as client:
        return dict(client.version(model, version).tags)


def report_sweep(
    settings: Settings, plan: SweepPlan, params: Mapping[str, Any], key: str, progress: Callable[[str], None] = print
) -> dict[str, Any]:
    """Judges all rows, and records them: table, Pareto plot and page in MLflow, the summary on the version.

    Raises :class:`~include.lifecycle.compression_verdicts.NothingToCompareError` where the original could not be measured.
    """
    from include.lifecycle import compression_record
    from include.lifecycle.compression_report import write_report
    from include.lifecycle.compression_verdicts import CompressionPolicy, judge_sweep

    rows = [plan.row(name) or Row(variant=name, state=State.FAILED, why="the sweep left no row") for name in plan.variants]
    policy = CompressionPolicy(**{name: params[name] for name in CompressionPolicy.model_fields})
    network = measuring_network(_tags(settings, plan.original.label), progress)
    found = judge_sweep(rows, np.load(plan.directory / REFERENCES, allow_pickle=False), policy, network)
    files = write_report(plan, rows, found, policy, network.name)
    run_id = compression_record.log_sweep(settings, plan, found, files, key)
    summary = compression_record.tag_version(settings, plan, found, run_id)
    registered = compression_record.register(settings, plan, found, rows, key) if params["register_offered"] else []
    return {
        **summary,
        "verdicts": {each.variant: each.verdict for each in found},
        "registered": registered,
        "report": str(files.page),
        "table": json.loads(files.table.read_text(encoding="utf-8"))["variants"],
        "mlflow_run_id": run_id,
    }
