"""The router: requests, workers' and control messages in; events, leases and dead letters out.

Submitted to a session cluster as :mod:`flink_jobs.submission` says; settings come from the submitting process's environment and travel
with the job. Delivery is at least once; effects are keyed by request and lease, so repeats change nothing.
"""

from __future__ import annotations

import argparse
from functools import partial

from pyflink.common import Configuration, Types, WatermarkStrategy
from pyflink.datastream import DataStream, StreamExecutionEnvironment
from pyflink.table import StreamTableEnvironment

from flink_jobs import functions
from flink_jobs.connectors import kafka_sink, kafka_source
from flink_jobs.keys import keyed_rows
from flink_jobs.rows import ROW_OF_TEXTS, split, tag
from flink_jobs.submission import JOB_NAME, job_configuration
from include.config import Settings, settings
from include.contracts import topics

#: Nobody waits for a batch request as it comes; the broker may collect some first.
BATCH_WAIT_MS = 8


def define_workflow(
    realtime: DataStream, batch: DataStream, workers: DataStream, control: DataStream, options: functions.RouterOptions
) -> DataStream:
    """Rows of topic and message.

    The two request streams stay apart up to the scheduler, so that one which is held back doesn't hold back the other. Batch requests
    are held back by a task of their own. The edge before it is a rebalance and not the forward edge that equal parallelism would give:
    only what is not pointwise can be overtaken by an unaligned checkpoint's barrier.
    """
    tables = StreamTableEnvironment.create(realtime.get_execution_environment())
    tagged = partial(tag, tables, options.cell)
    paced = (
        tagged(batch, functions.BATCH).rebalance().map(functions.PaceBatch(options), output_type=ROW_OF_TEXTS).uid("pace-b").name("pace b")
    )
    requests = keyed_rows(tagged(realtime, functions.REALTIME).union(paced), Types.STRING())
    steering = keyed_rows(tagged(workers, functions.WORKER).union(tagged(control, functions.CONTROL)), Types.STRING())
    schedule = functions.ScheduleRequests(options)
    decided = requests.connect(steering).process(schedule, output_type=Types.STRING()).uid("schedule").name("schedule")
    return split(tables, decided)


def options_of(config: Settings, pools: tuple[str, ...]) -> functions.RouterOptions:
    return functions.RouterOptions(
        topic_prefix=config.topic_prefix,
        cell=config.cell,
        pools=pools or config.pools,
        default_model=config.model_name,
        lease_s=config.lease_s,
        max_attempts=config.max_attempts,
    )


def build(env: StreamExecutionEnvironment, config: Settings, pools: tuple[str, ...] = ()) -> None:
    """Sources and the sink around :func:`define_workflow`."""

    def read(topic: str) -> DataStream:
        name, wait_ms = config.topic_prefix + topic, BATCH_WAIT_MS if topic == topics.BATCH else 0
        source = kafka_source(config.bootstrap, name, config.router_group, from_start=topic == topics.CONTROL, wait_ms=wait_ms)
        return env.from_source(source, WatermarkStrategy.no_watermarks(), topic).uid(f"source-{topic}")

    realtime, batch, workers, control = (read(topic) for topic in (topics.REALTIME, topics.BATCH, topics.WORKERS, topics.CONTROL))
    outgoing = define_workflow(realtime, batch, workers, control, options_of(config, pools))
    outgoing.sink_to(kafka_sink(config.bootstrap)).uid("sink").name("kafka")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pools", default="", help="comma-separated pools of the cell; without it, the configured one")
    pools = tuple(filter(None, parser.parse_args().pools.split(",")))
    config, configuration = settings(), Configuration()
    for key, value in job_configuration(config.checkpoint_s).items():
        configuration.set_string(key, value)
    env = StreamExecutionEnvironment.get_execution_environment(configuration)
    # One cell is one key: more parallel instances would only idle. Scale is more cells.
    env.set_parallelism(1)
    build(env, config, pools)
    env.execute(JOB_NAME)


if __name__ == "__main__":
    main()
