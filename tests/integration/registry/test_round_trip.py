"""A directory becomes a version, and the version becomes the same directory again, through a real MLflow server."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from include.config import Settings
from include.registry.aliases import delete_alias, get_alias, set_alias, version_ref
from include.registry.client import RegistryClient
from include.registry.errors import ModelRejectedError, RegistryUnavailableError, UnknownModelError
from include.registry.fetch import ModelFetcher
from include.registry.files import LIST_NAME, list_files
from include.registry.publish import register_version
from tests.support.registry import DEFAULTS, artifact_file, new_run, register


def test_a_registered_directory_is_fetched_as_it_was(mlflow_server: str, model_dir: Path, name: str, tmp_path: Path) -> None:
    ref = register(model_dir, name, mlflow_server)
    assert ref.digest == list_files(model_dir).digest
    fetcher = ModelFetcher(tmp_path / "cache", mlflow_server)
    fetched = fetcher.fetch(ref)
    assert list_files(fetched) == list_files(model_dir)
    found = version_ref(name, ref.version, uri=mlflow_server)
    assert (found.ref, found.defaults) == (ref, DEFAULTS)
    assert found.tags["atelier.dataset_digest"] == "d" * 64


def test_a_cached_version_needs_no_server_and_a_damaged_one_is_fetched_anew(
    mlflow_server: str, model_dir: Path, name: str, tmp_path: Path
) -> None:
    ref = register(model_dir, name, mlflow_server)
    cached = ModelFetcher(tmp_path / "cache", mlflow_server).fetch(ref)
    assert ModelFetcher(tmp_path / "cache", "http://127.0.0.1:9").fetch(ref) == cached
    (cached / "network" / "weights.safetensors").write_bytes(b"rotten")
    assert list_files(ModelFetcher(tmp_path / "cache", mlflow_server).fetch(ref)).digest == ref.digest


def test_registering_again_gives_the_same_version(mlflow_server: str, model_dir: Path, name: str) -> None:
    run = new_run(mlflow_server)
    first = register_version(model_dir, model_name=name, run_id=run, defaults=DEFAULTS, uri=mlflow_server)
    assert register_version(model_dir, model_name=name, run_id=run, defaults=DEFAULTS, uri=mlflow_server) == first
    assert register(model_dir, name, mlflow_server).version == "2"


def test_a_pickle_is_not_registered(mlflow_server: str, model_dir: Path, name: str) -> None:
    (model_dir / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelRejectedError, match="convert it"):
        register(model_dir, name, mlflow_server)
    with RegistryClient(mlflow_server) as client, pytest.raises(UnknownModelError):
        client.model(name)


def test_aliases_move_and_end(mlflow_server: str, model_dir: Path, name: str) -> None:
    assert get_alias(name, "champion", uri=mlflow_server) is None
    for version in (register(model_dir, name, mlflow_server).version, register(model_dir, name, mlflow_server).version):
        set_alias(name, "champion", version, by="ann", why="test", uri=mlflow_server)
        assert get_alias(name, "champion", uri=mlflow_server) == version
    delete_alias(name, "champion", uri=mlflow_server)
    assert get_alias(name, "champion", uri=mlflow_server) is None
    with pytest.raises(UnknownModelError):
        version_ref(name, "99", uri=mlflow_server)


class TestDamagedVersions:
    """What the server gives out is not what was registered."""

    @pytest.fixture
    def fetcher(self, mlflow_server: str, tmp_path: Path) -> ModelFetcher:
        return ModelFetcher(tmp_path / "cache", mlflow_server)

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda path: path.write_bytes(b"x" * path.stat().st_size), "does not have the sha256"),
            (lambda path: os.truncate(path, 100), "shorter than its"),
            (lambda path: path.write_bytes(path.read_bytes() + b"more"), "longer than its"),
            (lambda path: path.unlink(), "has no file network/weights.safetensors"),
        ],
        ids=["changed", "truncated", "longer", "missing"],
    )
    def test_a_damaged_file_is_refused_and_not_kept(
        self, mlflow_server, service_settings: Settings, fetcher: ModelFetcher, model_dir: Path, name: str, damage, message: str
    ) -> None:
        ref = register(model_dir, name, mlflow_server)
        damage(artifact_file(service_settings.home, ref, "network/weights.safetensors"))
        with pytest.raises(ModelRejectedError, match=message):
            fetcher.fetch(ref)
        assert list(fetcher.cache_dir.iterdir()) == []

    def test_a_list_that_leads_outside_is_refused_before_anything_is_read(
        self, mlflow_server: str, service_settings: Settings, fetcher: ModelFetcher, model_dir: Path, name: str
    ) -> None:
        ref = register(model_dir, name, mlflow_server)
        listing = artifact_file(service_settings.home, ref, LIST_NAME)
        listing.write_text(json.dumps({"files": {"../../escape.json": {"sha256": "0" * 64, "size": 1}}}))
        with pytest.raises(ModelRejectedError, match="not a plain relative path"):
            fetcher.fetch(ref)

    def test_another_digest_is_refused(self, mlflow_server: str, fetcher: ModelFetcher, model_dir: Path, name: str) -> None:
        ref = register(model_dir, name, mlflow_server).model_copy(update={"digest": "0" * 64})
        with pytest.raises(ModelRejectedError, match="the version says 000000000000"):
            fetcher.fetch(ref)

    @pytest.mark.parametrize("source", ["file:///etc", "/etc", "mlflow-artifacts:/0/../../etc", "http://127.0.0.1/x", "mlflow-artifacts:/"])
    def test_other_sources_are_refused(self, mlflow_server: str, fetcher: ModelFetcher, model_dir: Path, name: str, source: str) -> None:
        ref = register(model_dir, name, mlflow_server).model_copy(update={"source": source})
        with pytest.raises(ModelRejectedError, match="use mlflow-artifacts:/"):
            fetcher.fetch(ref)

    def test_a_server_that_is_away_is_another_error(self, mlflow_server: str, model_dir: Path, name: str, tmp_path: Path) -> None:
        ref = register(model_dir, name, mlflow_server)
        with pytest.raises(RegistryUnavailableError, match=r"http://127\.0\.0\.1:9"):
            ModelFetcher(tmp_path / "other", "http://127.0.0.1:9").fetch(ref)


def test_the_cache_forgets_what_was_used_least_recently(mlflow_server: str, model_dir: Path, name: str, tmp_path: Path) -> None:
    first = register(model_dir, name, mlflow_server)
    (model_dir / "more.txt").write_text("another version")
    second = register(model_dir, name, mlflow_server)
    fetcher = ModelFetcher(tmp_path / "cache", mlflow_server, max_bytes=40_000)
    old = fetcher.fetch(first)
    os.utime(old, (0, 0))
    fetcher.release(first)
    new = fetcher.fetch(second)
    assert new.exists() and not old.exists()
