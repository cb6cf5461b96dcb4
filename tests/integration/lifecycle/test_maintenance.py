"""What maintenance plans and removes, with a real MLflow: never what a champion came from, never what runs, and never more than planned."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from include.config import Settings
from include.contracts.objects import image_key, parked_key, preview_key
from include.contracts.requests import ImageFormat
from include.dataset import trees
from include.dataset.files import write_json
from include.dataset.loader import load_split, read_manifest
from include.lifecycle import jobs
from include.lifecycle.datasets import POINTER, dataset_root, versions
from include.lifecycle.maintenance import files, steps
from include.lifecycle.maintenance.context import for_planning
from include.lifecycle.maintenance.items import Plan
from include.lifecycle.maintenance.limits import Limits
from include.lifecycle.tracking import client_of, open_run
from include.registry.aliases import version_ref
from include.registry.client import RegistryClient
from include.registry.fetch import ModelFetcher
from include.registry.ledger import AliasLedger, AliasMove
from include.storage import open_store
from tests.integration.lifecycle.conftest import STRICT, Installation, aged
from tests.support.s3 import S3Server
from tests.support.waiting import wait_for


def planned(installation: Installation, limits: Limits = STRICT) -> Plan:
    """Without the model versions of other tests, whose server this is too."""
    plan = steps.plan_of(for_planning(installation.settings, limits))
    ours = tuple(item for item in plan.items if item.kind != "model version" or item.name.startswith(f"{installation.model}/"))
    return plan.model_copy(update={"items": ours})


def going(plan: Plan, kind: str) -> set[str]:
    return {item.name for item in plan.going if item.kind == kind}


def why(plan: Plan, kind: str, name: str) -> str:
    return next(item.why for item in plan.items if (item.kind, item.name) == (kind, name))


def logged(installation: Installation, plan: Plan) -> str:
    """The id of the MLflow run that has the plan."""
    client = client_of(installation.settings)
    run_id = open_run(client, steps.EXPERIMENT, uuid.uuid4().hex, "plan")
    client.log_text(run_id, plan.model_dump_json(), steps.PLAN)
    return run_id


def removed(installation: Installation, plan: Plan) -> dict[str, int]:
    return steps.apply_plan(installation.settings, logged(installation, plan), say=lambda line: None)


def model_versions(installation: Installation) -> set[str]:
    with RegistryClient(installation.settings.mlflow) as client:
        return {version.version for version in client.versions(installation.model)}


@pytest.fixture
def family(installation: Installation) -> Installation:
    """Version 2 serves and was trained from 1; 3 served before 2; 4 is nobody's; so are the datasets, and ``root`` is the parent of one."""
    for name in ("root", "apart", "nobody"):
        installation.dataset(name)
    installation.dataset("one", parent="root-1")
    installation.dataset("two", against=("apart-1",))
    installation.dataset("three")
    installation.version("one-1")
    installation.version("two-1", **{"parent": f"{installation.model}/1", "promotion.from": "3"})
    installation.version("three-1")
    installation.version("nobody-1")
    installation.alias("champion", "2")
    return installation


def test_what_the_champion_came_from_stays_and_the_rest_goes(family: Installation) -> None:
    plan = planned(family)
    assert going(plan, "dataset version") == {"nobody-1"}
    assert going(plan, "model version") == {f"{family.model}/4"}
    assert going(plan, "training run") == {f"{family.model}-4"}
    assert why(plan, "dataset version", "root-1").startswith("one-1 was made from it")
    outcome = removed(family, plan)
    assert outcome["removed"] >= 3 and "failed" not in outcome
    assert set(versions(dataset_root(family.settings))) == {"root-1", "apart-1", "one-1", "two-1", "three-1"}
    assert model_versions(family) == {"1", "2", "3"}
    for number in "123":
        ref = version_ref(family.model, number, uri=family.settings.mlflow).ref
        assert ModelFetcher(family.settings.home / "fetched", family.settings.mlflow).fetch(ref).is_dir()
        assert (family.settings.home / "training" / f"{family.model}-{number}" / "checkpoints").is_dir()


def test_a_plan_that_lists_ancestors_removes_none_of_them(family: Installation) -> None:
    plan = planned(family)
    forged = plan.model_copy(
        update={"items": tuple(replace(item, goes=True) for item in plan.items if family.model in item.name or "-1" in item.name)}
    )
    before = set(versions(dataset_root(family.settings)))
    outcome = removed(family, forged)
    assert outcome["stays"] >= 10
    assert before - set(versions(dataset_root(family.settings))) == {"nobody-1"}
    assert model_versions(family) == {"1", "2", "3"}
    assert {path.name for path in (family.settings.home / "training").iterdir()} == {f"{family.model}-{number}" for number in "123"}


def test_the_champion_before_is_known_from_the_ledger_where_no_tag_says_it(family: Installation) -> None:
    move = AliasMove(at=time.time(), model=family.model, alias="champion", from_version="4", to_version="2")  # type: ignore[call-arg]
    AliasLedger(family.settings.home / "ledger" / "aliases.jsonl").append(move)
    plan = planned(family)
    assert going(plan, "dataset version") == set()
    assert why(plan, "model version", f"{family.model}/4") == f"champion of {family.model} before this one"


def test_what_a_serving_version_was_compressed_from_stays(family: Installation) -> None:
    family.alias("compressed", family.version("three-1", compressed_from=f"{family.model}/4"))
    plan = planned(family)
    assert going(plan, "model version") == going(plan, "dataset version") == set()


def test_what_became_needed_after_the_plan_stays(family: Installation) -> None:
    plan = planned(family)
    family.alias("challenger", "4")
    removed(family, plan)
    assert "nobody-1" in versions(dataset_root(family.settings))
    assert model_versions(family) == {"1", "2", "3", "4"}


def test_what_is_not_in_the_plan_stays(family: Installation) -> None:
    plan = planned(family)
    family.dataset("later")
    removed(family, plan)
    assert "later-1" in versions(dataset_root(family.settings))


def test_grace_the_newest_and_the_pointer_keep_versions(installation: Installation) -> None:
    root = dataset_root(installation.settings)
    for name in ("old", "young", "pointed"):
        installation.dataset(name)
    for name in ("old-1", "pointed-1"):
        aged(root / name, 100)
    limits = STRICT.model_copy(update={"grace_days": 2.0, "dataset_days": 90.0})
    write_json(root / POINTER, {"version": "pointed-1", "digest": "any"})
    assert going(planned(installation, limits), "dataset version") == {"old-1"}
    assert going(planned(installation, limits.model_copy(update={"keep_datasets": 1})), "dataset version") == set()


def test_a_running_job_keeps_its_directory_and_its_dataset(installation: Installation) -> None:
    manifest = dataset_root(installation.settings) / installation.dataset("read") / "manifest.json"
    directory = installation.run_directory("running")
    jobs.submit(directory, [sys.executable, "-c", "import time; time.sleep(60)", str(manifest)])
    try:
        plan = planned(installation)
        assert going(plan, "dataset version") == going(plan, "training run") == going(plan, "checkpoints") == set()
    finally:
        jobs.stop(directory)
        wait_for(lambda: jobs.state(directory) is not jobs.JobState.RUNNING, 30, "the job to end")
    assert going(planned(installation), "training run") == {"running"}


def test_checkpoints_go_before_their_run_and_only_where_it_ended_well(installation: Installation) -> None:
    for name, code in (("well", 0), ("badly", 1)):
        directory = installation.run_directory(name)
        jobs.submit(directory, [sys.executable, "-c", f"raise SystemExit({code})"])
        wait_for(lambda path=directory: jobs.state(path) is not jobs.JobState.RUNNING, 30, "the job to end")
        aged(directory, 20)
    plan = planned(installation, STRICT.model_copy(update={"run_days": 60.0}))
    assert going(plan, "checkpoints") == {"well"}
    removed(installation, plan)
    training = installation.settings.home / "training"
    assert not (training / "well" / "checkpoints").exists() and (training / "well" / "training.json").exists()
    assert (training / "badly" / "checkpoints").is_dir()


def test_a_removal_that_is_cut_short_is_finished_by_the_next(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    root = dataset_root(installation.settings)
    for name in ("one", "two"):
        installation.dataset(name)
    run_id = logged(installation, planned(installation))

    real = shutil.rmtree

    def killed(path: Path, *rest: Any, **named: Any) -> None:
        if files.GONE in str(path) and not named.get("ignore_errors"):
            raise KeyboardInterrupt
        real(path, *rest, **named)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(files.shutil, "rmtree", killed)
        steps.apply_plan(installation.settings, run_id, say=lambda line: None)
    assert len(versions(root)) == 1
    assert steps.apply_plan(installation.settings, run_id, say=lambda line: None) == {"gone already": 1, "removed": 1}
    assert len(list(root.glob(f"{files.GONE}*"))) == 1
    removed(installation, planned(installation))
    assert list(root.iterdir()) == []


@pytest.mark.parametrize(("event", "number"), [("os.rename", 1), ("os.remove", 2), ("os.rmdir", 1)])
def test_killed_anywhere_in_a_removal_no_version_is_half_there_and_the_next_run_ends_it(
    family: Installation, event: str, number: int
) -> None:
    root, kept = dataset_root(family.settings), {"root-1", "apart-1", "one-1", "two-1", "three-1"}
    run_id = logged(family, planned(family))
    killed = [sys.executable, "-m", "tests.support.killed", event, f"datasets/{files.GONE}", str(number)]
    command = [*killed, "tests.integration.lifecycle.apply_plan", str(family.settings.home), family.settings.mlflow, run_id]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]

    left = set(versions(root)) - kept
    assert left == ({"nobody-1"} if event == "os.rename" else set())
    assert {path.name for path in root.glob(f"{files.GONE}*")} == (set() if left else {f"{files.GONE}datasets-nobody-1"})
    assert_whole(family, kept | left)

    removed(family, planned(family))
    assert {path.name for path in root.iterdir()} == kept
    assert_whole(family, kept)
    assert model_versions(family) == {"1", "2", "3"}


def assert_whole(installation: Installation, names: set[str]) -> None:
    """Each has every file that its manifest lists, with the digest of the manifest, and the champion's files are all there."""
    root = dataset_root(installation.settings)
    assert set(versions(root)) == names
    for name in names:
        for split in read_manifest(root / name / "manifest.json")["files"]:
            load_split(root / name / "manifest.json", split)
    ref = version_ref(installation.model, "2", uri=installation.settings.mlflow).ref
    assert ModelFetcher(installation.settings.home / uuid.uuid4().hex, installation.settings.mlflow).fetch(ref).is_dir()


def test_large_artifacts_of_old_runs_go_and_small_or_young_ones_stay(installation: Installation) -> None:
    client = client_of(installation.settings)
    runs = {}
    for name, ended in (("old", time.time() - 90 * 86_400), ("young", time.time())):
        runs[name] = open_run(client, f"experiment-{uuid.uuid4().hex[:8]}", name, name)
        client.log_text(runs[name], "x" * 2_000_000, "samples/large.txt")
        client.log_text(runs[name], "small", "small.txt")
        client.set_terminated(runs[name], end_time=int(ended * 1000))
    plan = planned(installation, Limits())
    assert going(plan, "MLflow artifact") & {f"{run}/{path}" for run in runs.values() for path in ("samples", "small.txt")} == {
        f"{runs['old']}/samples"
    }
    only = plan.model_copy(update={"items": tuple(item for item in plan.items if runs["old"] in item.name)})
    assert removed(installation, only) == {"removed": 1}
    assert [found.path for found in client.list_artifacts(runs["old"])] == ["small.txt"]
    assert {found.path for found in client.list_artifacts(runs["young"])} == {"samples", "small.txt"}


@pytest.fixture(params=["directory", "s3"])
def store_settings(request: pytest.FixtureRequest, installation: Installation, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        installation.settings = server.settings(installation.settings, prefix=uuid.uuid4().hex[:8])
        monkeypatch.setattr(trees, "settings", lambda: installation.settings)
    trees._client.cache_clear()
    yield installation.settings
    trees._client.cache_clear()


def test_leftovers_of_the_store_go_and_images_only_by_a_limit_of_their_own(installation: Installation, store_settings: Settings) -> None:
    store = open_store(store_settings)
    keys = {preview_key("acme", "r-1"), parked_key("acme", "r-1")}
    image = image_key("acme", "r-1", 0, ImageFormat.PNG)
    for key in (*keys, image):
        store.put(key, b"data", "application/octet-stream")
    young = planned(installation, Limits())
    assert not keys & {item.name for item in young.going}
    plan = planned(installation, STRICT.model_copy(update={"image_days": None}))
    assert {item.name for item in plan.going if item.name.startswith(("previews", "parked", "images"))} == keys
    store.delete(preview_key("acme", "r-1"))
    outcome = removed(installation, plan)
    assert outcome["gone already"] == 1
    assert list(store.list()) == [image]


def test_a_preview_that_was_written_again_stays(installation: Installation) -> None:
    store, key = open_store(installation.settings), preview_key("acme", "r-1")
    store.put(key, b"old", "image/jpeg")
    path = installation.settings.home / "objects" / key
    aged(path, 3)
    plan = planned(installation, Limits())
    assert going(plan, "preview") == {key}
    store.put(key, b"new", "image/jpeg")
    removed(installation, plan)
    assert store.get(key) == b"new"


def test_archive_days_and_caches_go_by_age(installation: Installation) -> None:
    home = installation.settings.home
    for day, name in (("2026-01-01", "part-1.parquet"), ("2026-01-02", ".part-2.inprogress"), ("2999-01-01", "part-3.parquet")):
        path = home / "archive" / "events" / f"day={day}" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
    (home / "cache" / "models" / ("a" * 64)).mkdir(parents=True)
    (home / "encoded" / "text-1").mkdir(parents=True)
    (home / "compression" / ("b" * 64)).mkdir(parents=True)
    (home / "datasets" / ".cache" / "chunks").mkdir(parents=True)
    free = home / "datasets" / ".cache" / "chunks" / "free.parquet"
    free.write_bytes(b"x")
    used = free.with_name("used.parquet")
    used.write_bytes(b"x")
    os.link(used, home / "datasets" / "version.parquet")
    for name in ("near/pictures-2.npz", "listings/0.json"):
        memory = home / "datasets" / ".cache" / name
        memory.parent.mkdir()
        memory.write_bytes(b"x")
    for name in ("archive/events/day=2026-01-01", "archive/events/day=2026-01-02", "cache", "encoded", "compression", "datasets"):
        aged(home / name, 100)
    plan = planned(installation, STRICT.model_copy(update={"archive_days": 30.0, "cache_days": 30.0}))
    assert going(plan, "archive day") == {"events/day=2026-01-01"}
    assert going(plan, "cached model") == {"a" * 64} and going(plan, "encoded cache") == {"text-1"}
    assert going(plan, "compressed variants") == {"b" * 64}
    forgotten = {".cache/near/pictures-2.npz", ".cache/listings/0.json"}
    assert going(plan, "preparation file") == {".cache/chunks/free.parquet"} | forgotten
    removed(installation, plan)
    assert not any((home / "datasets" / name).exists() for name in forgotten)
    assert used.exists() and not free.exists()
    assert not (home / "archive" / "events" / "day=2026-01-01").exists()


def test_a_cached_model_that_a_worker_holds_stays(family: Installation) -> None:
    ref = version_ref(family.model, "4", uri=family.settings.mlflow).ref
    fetcher = ModelFetcher(family.settings.home.resolve() / "cache" / "models", family.settings.mlflow)
    fetcher.fetch(ref)
    plan = planned(family)
    assert going(plan, "cached model") == {ref.digest}
    removed(family, plan)
    assert (fetcher.cache_dir / ref.digest).is_dir()
    fetcher.release(ref)
    removed(family, plan)
    assert not (fetcher.cache_dir / ref.digest).exists()


def test_the_retention_of_events_is_shown_and_set(topics: Settings, installation: Installation) -> None:
    installation.settings = topics.model_copy(update={"home": installation.settings.home, "mlflow_uri": installation.settings.mlflow})
    assert why(planned(installation), "topic", "events") == "keeps 7 days"
    plan = planned(installation, STRICT.model_copy(update={"event_days": 3.0}))
    assert going(plan, "topic") == {"events"}
    removed(installation, plan)
    assert why(planned(installation, STRICT.model_copy(update={"event_days": 3.0})), "topic", "events") == "keeps 3 days"


def test_the_plan_is_in_the_log_and_in_mlflow_and_may_be_applied_later(family: Installation) -> None:
    lines: list[str] = []
    run_id = steps.make_plan(family.settings, {**STRICT.model_dump(), "version_days": None}, f"daily-{family.model}", lines.append)
    assert any("dataset version nobody-1" in line and "nothing needs it" in line for line in lines)
    assert any(line.startswith("not looked at: TopicKeeper") for line in lines)
    client = client_of(family.settings)
    assert {found.path for found in client.list_artifacts(run_id)} == {steps.PLAN, steps.PAGE}
    assert "nobody-1" in versions(dataset_root(family.settings))
    assert steps.make_plan(family.settings, {"plan": run_id}, "by hand", lines.append) == run_id
    steps.apply_plan(family.settings, run_id, lines.append)
    assert "nobody-1" not in versions(dataset_root(family.settings))
    with pytest.raises(LookupError, match="plan: there is no plan"):
        steps.make_plan(family.settings, {"plan": "0" * 32}, "by hand", lines.append)


def test_without_mlflow_nothing_is_planned(installation: Installation) -> None:
    installation.dataset("any")
    settings = installation.settings.model_copy(update={"mlflow_uri": "http://127.0.0.1:1"})
    with pytest.raises(Exception, match=r"MLflow|connect|retries"):
        for_planning(settings, STRICT)


def test_what_cannot_be_removed_is_named_and_the_rest_goes(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        installation.dataset(name)
    real = shutil.rmtree

    def refusing(path: Path, *rest: Any, **named: Any) -> None:
        if "one-1" in str(path) and not named.get("ignore_errors"):
            raise PermissionError(13, "Permission denied", str(path))
        real(path, *rest, **named)

    plan = planned(installation)
    monkeypatch.setattr(files.shutil, "rmtree", refusing)
    with pytest.raises(steps.RemovalError, match=r"dataset version one-1: failed: .*Permission denied"):
        removed(installation, plan)
    assert versions(dataset_root(installation.settings)) == []
