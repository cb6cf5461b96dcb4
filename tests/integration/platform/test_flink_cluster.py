"""The session cluster runs Python jobs in thread mode against Kafka, and a killed TaskManager costs no state."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from include.config import Settings
from include.contracts import topics as names
from include.platform.flink_jobs import SubmissionError, completed_checkpoints, submit_job
from tests.support.flink_cluster import FlinkCluster
from tests.support.kafka_client import TopicReader, send
from tests.support.waiting import wait_for

ECHO = Path(__file__).with_name("echo_job.py")


def test_state_outlives_a_killed_taskmanager(flink_cluster: FlinkCluster, topics: Settings) -> None:
    job_id = flink_cluster.submit(ECHO, env={"ECHO_BOOTSTRAP": topics.bootstrap, "ECHO_PREFIX": topics.topic_prefix})
    with closing(TopicReader(topics, names.EVENTS)) as reader:
        send(topics, names.REALTIME, "a", "b")
        assert {value.split(b":")[0] for value in reader.wait_count(2) if value} == {b"1", b"2"}
        wait_for(lambda: completed_checkpoints(flink_cluster.settings), 30, "a completed checkpoint")
        newest = completed_checkpoints(flink_cluster.settings)[0]
        wait_for(lambda: completed_checkpoints(flink_cluster.settings)[0] != newest, 30, "a checkpoint that holds both")

        flink_cluster.kill_taskmanager()
        flink_cluster.wait_running(job_id)
        send(topics, names.REALTIME, "c")
        reader.wait_until(lambda values: b"3:c" in values, 60, "the third number")


def test_a_job_that_does_not_build_is_reported(flink_cluster: FlinkCluster, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise ValueError('no such lane')")
    with pytest.raises(SubmissionError, match="no such lane"):
        submit_job(flink_cluster.settings, broken)
