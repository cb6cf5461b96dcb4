"""The generated configurations of Kafka, Flink and Airflow."""

from __future__ import annotations

import configparser
import os
from pathlib import Path

import pytest
import yaml

from include.config import Settings
from include.platform.airflow import airflow_configuration
from include.platform.files import secret, write_if_changed
from include.platform.flink import flink_configuration, prepare_flink
from include.platform.flink_jobs import SubmissionError, completed_checkpoints
from include.platform.kafka import delete_topics, kafka_command, server_properties
from tests.support.services import free_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return free_settings(tmp_path / "home")


def test_flink_runs_python_in_threads_and_keeps_checkpoints(settings: Settings) -> None:
    configuration = flink_configuration(settings)
    assert configuration["python.execution-mode"] == "thread"
    assert "site-packages" in configuration["python.pythonpath"]
    assert configuration["execution.checkpointing.externalized-checkpoint-retention"] == "RETAIN_ON_CANCELLATION"
    assert "--add-opens=java.base/java.nio=ALL-UNNAMED" in configuration["env.java.opts.all"]
    assert configuration["rest.port"] == settings.flink_port


def test_flink_home_holds_what_a_python_job_needs(settings: Settings) -> None:
    home = prepare_flink(settings)
    libraries = {path.name.rsplit("-", 1)[0] for path in (home / "lib").glob("*.jar")}
    assert {"flink-dist", "flink-python"} <= libraries
    assert any(path.name.startswith("flink-sql-connector-kafka") for path in (home / "lib").iterdir())
    assert (home / "bin" / "jobmanager.sh").stat().st_mode & 0o111
    assert list((home / "opt").glob("flink-python-*.jar"))


def test_a_second_layout_changes_nothing_and_drops_what_is_stale(settings: Settings) -> None:
    home = prepare_flink(settings)
    first = yaml.safe_load((home / "conf" / "config.yaml").read_text())
    (home / "lib" / "flink-old-1.0.jar").symlink_to("/nowhere.jar")
    prepare_flink(settings)
    assert yaml.safe_load((home / "conf" / "config.yaml").read_text()) == first
    assert not (home / "lib" / "flink-old-1.0.jar").is_symlink()


def test_missing_jars_name_the_command_that_fetches_them(tmp_path: Path) -> None:
    bare = free_settings(tmp_path / "home", jars=tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="make jars"):
        prepare_flink(bare)
    with pytest.raises(FileNotFoundError, match="make jars"):
        kafka_command(bare)


def test_kafka_listens_on_the_chosen_ports_only(settings: Settings) -> None:
    lines = dict(line.split("=", 1) for line in server_properties(settings).splitlines())
    assert lines["listeners"] == f"PLAINTEXT://127.0.0.1:{settings.kafka_port},CONTROLLER://127.0.0.1:{settings.kafka_controller_port}"
    assert lines["auto.create.topics.enable"] == "false"


def test_topics_of_everyone_are_not_deleted(settings: Settings) -> None:
    with pytest.raises(ValueError, match="topic_prefix is empty"):
        delete_topics(settings.model_copy(update={"topic_prefix": ""}))


def test_airflow_keeps_its_secrets_and_its_silence(settings: Settings) -> None:
    text = airflow_configuration(settings)
    assert text == airflow_configuration(settings)
    parsed = configparser.ConfigParser()
    parsed.read_string(text)
    assert parsed["core"]["load_examples"] == "False"
    assert parsed["usage_data_collection"]["enabled"] == "False"
    assert parsed["core"]["execution_api_server_url"] == f"{settings.airflow}/execution/"
    assert len(parsed["api_auth"]["jwt_secret"]) >= 64
    assert all(path.stat().st_mode & 0o077 == 0 for path in (settings.home / "airflow" / "secrets").iterdir())


def test_files_are_written_when_they_change(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    assert write_if_changed(path, "1")
    assert not write_if_changed(path, "1")
    assert write_if_changed(path, "2")
    assert path.read_text() == "2"
    assert [found.name for found in path.parent.iterdir()] == ["b"]
    assert secret(tmp_path / "s") == secret(tmp_path / "s") != secret(tmp_path / "t")


def test_the_newest_complete_checkpoint_comes_first(settings: Settings) -> None:
    root = settings.home / "flink" / "checkpoints"
    for job, number, age in (("a", 1, 30), ("a", 2, 20), ("b", 1, 10)):
        metadata = root / job / f"chk-{number}" / "_metadata"
        write_if_changed(metadata, "x")
        stamp = 1_700_000_000 - age
        os.utime(metadata, (stamp, stamp))
    (root / "b" / "chk-2").mkdir()
    assert [path.relative_to(root).as_posix() for path in completed_checkpoints(settings)] == ["b/chk-1", "a/chk-2", "a/chk-1"]


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (
            "Traceback\n  File x\nValueError: no such lane\norg.apache.flink.client.program.ProgramAbortException: y\n",
            "ValueError: no such lane",
        ),
        (
            "x\norg.apache.flink.util.FlinkException: a\nCaused by: java.net.ConnectException: refused\n",
            "java.net.ConnectException: refused",
        ),
        ("something else", "something else"),
    ],
)
def test_a_failed_submission_says_why(said: str, cause: str) -> None:
    assert SubmissionError(said).cause == cause
