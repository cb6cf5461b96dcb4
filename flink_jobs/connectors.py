"""Kafka in and out of the job, byte for byte."""

from __future__ import annotations

from typing import Any

from pyflink.common import SimpleStringSchema
from pyflink.datastream.connectors.base import DeliveryGuarantee
from pyflink.datastream.connectors.kafka import (
    KafkaOffsetResetStrategy,
    KafkaOffsetsInitializer,
    KafkaRecordSerializationSchema,
    KafkaSink,
    KafkaSource,
)
from pyflink.java_gateway import get_gateway
from pyflink.util.java_utils import get_java_class

#: Above the largest dead letter: two MiB in base64 and its envelope.
MAX_REQUEST_BYTES = 4 * 1024 * 1024
#: Some dozens of requests: what is worth asking for where messages may wait.
FULL_FETCH_BYTES = 16 * 1024


def _bytes_as_text() -> Any:
    """Kafka's own deserializer, which hands on a null value as null, with an encoding that keeps every byte.

    Flink's SimpleStringSchema throws at a null value inside the source, and the job restarts for ever; UTF-8 would replace invalid bytes.
    """
    jvm = get_gateway().jvm
    deserializer = get_java_class(jvm.org.apache.flink.kafka.shaded.org.apache.kafka.common.serialization.StringDeserializer)
    config = jvm.java.util.HashMap()
    config.put("deserializer.encoding", "ISO-8859-1")
    schema = jvm.org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema
    return schema.valueOnly(deserializer, config)


def kafka_source(bootstrap: str, topic: str, group: str, *, from_start: bool = False, wait_ms: int = 0) -> KafkaSource:
    """A topic's values as ISO-8859-1 text. Without a checkpoint it begins where the group stopped, or
    with ``from_start`` at the beginning.

    :param wait_ms: how long a message may wait at the broker for others, which saves both sides most of what it costs to ask
    """
    committed = KafkaOffsetsInitializer.committed_offsets(KafkaOffsetResetStrategy.EARLIEST)
    builder = (
        KafkaSource.builder()
        .set_bootstrap_servers(bootstrap)
        .set_topics(topic)
        .set_group_id(group)
        .set_client_id_prefix(f"{group}.{topic}")
        .set_starting_offsets(KafkaOffsetsInitializer.earliest() if from_start else committed)
        # Without a wait the broker answers as soon as there is anything; a shorter one would only ask it more often for nothing.
        .set_property("fetch.max.wait.ms", str(wait_ms or 100))
        .set_property("fetch.min.bytes", str(FULL_FETCH_BYTES if wait_ms else 1))
        .set_property("commit.offsets.on.checkpoint", "true")
    )
    builder._j_builder.setDeserializer(_bytes_as_text())
    return builder.build()


def kafka_sink(bootstrap: str) -> KafkaSink:
    """Takes rows of (topic, text). One producer for all topics keeps the order in which the router decided."""
    jvm = get_gateway().jvm
    serializer = KafkaRecordSerializationSchema.builder().set_value_serialization_schema(SimpleStringSchema())
    selector = get_java_class(jvm.org.apache.flink.connector.kafka.sink.TopicSelector)
    serializer._j_builder.setTopicSelector(jvm.org.apache.flink.python.util.PythonConnectorUtils.createFirstColumnTopicSelector(selector))
    schema = serializer.build()
    schema._wrap_serialization_schema()
    builder = KafkaSink.builder().set_bootstrap_servers(bootstrap).set_delivery_guarantee(DeliveryGuarantee.AT_LEAST_ONCE)
    # PyFlink's own setter would put a Python step before the sink that makes the rows which we make ourselves.
    builder._j_builder.setRecordSerializer(schema._j_serialization_schema)
    for key, value in {"linger.ms": "2", "max.request.size": str(MAX_REQUEST_BYTES), "compression.type": "none"}.items():
        builder.set_property(key, value)
    return builder.build()
