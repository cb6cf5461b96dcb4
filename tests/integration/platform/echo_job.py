"""A small job for the cluster's own tests: numbers each value of a topic, in keyed state, and sends both on."""

from __future__ import annotations

import os
from collections.abc import Iterator

from pyflink.common import SimpleStringSchema, Types, WatermarkStrategy
from pyflink.datastream import KeyedProcessFunction, RuntimeContext, StreamExecutionEnvironment
from pyflink.datastream.connectors.base import DeliveryGuarantee
from pyflink.datastream.connectors.kafka import KafkaOffsetsInitializer, KafkaRecordSerializationSchema, KafkaSink, KafkaSource
from pyflink.datastream.state import ValueStateDescriptor

from include.contracts import topics


class Numbering(KeyedProcessFunction):
    def open(self, runtime_context: RuntimeContext) -> None:
        self.count = runtime_context.get_state(ValueStateDescriptor("count", Types.LONG()))

    def process_element(self, value: str, ctx: KeyedProcessFunction.Context) -> Iterator[str]:
        number = (self.count.value() or 0) + 1
        self.count.update(number)
        yield f"{number}:{value}"


def main() -> None:
    bootstrap, prefix = os.environ["ECHO_BOOTSTRAP"], os.environ["ECHO_PREFIX"]
    env = StreamExecutionEnvironment.get_execution_environment()
    env.set_parallelism(1)
    env.enable_checkpointing(500)
    source = (
        KafkaSource.builder()
        .set_bootstrap_servers(bootstrap)
        .set_topics(prefix + topics.REALTIME)
        .set_group_id(prefix + "echo")
        .set_starting_offsets(KafkaOffsetsInitializer.earliest())
        .set_value_only_deserializer(SimpleStringSchema())
        .build()
    )
    serializer = KafkaRecordSerializationSchema.builder().set_topic(prefix + topics.EVENTS)
    sink = (
        KafkaSink.builder()
        .set_bootstrap_servers(bootstrap)
        .set_record_serializer(serializer.set_value_serialization_schema(SimpleStringSchema()).build())
        .set_delivery_guarantee(DeliveryGuarantee.AT_LEAST_ONCE)
        .build()
    )
    stream = env.from_source(source, WatermarkStrategy.no_watermarks(), "requests").key_by(lambda _: "all", key_type=Types.STRING())
    stream.process(Numbering(), output_type=Types.STRING()).uid("numbering").sink_to(sink)
    env.execute("echo")


if __name__ == "__main__":
    main()
