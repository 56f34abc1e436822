"""confluent-kafka (librdkafka) behind the calls that plan.py and matrix.py use."""

import confluent_kafka
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka import OFFSET_END, TopicCollection
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)

from plan import BOOTSTRAP, MAX_MESSAGE_BYTES, REPLICATION, Mismatch, Record

COMMON = {"bootstrap.servers": BOOTSTRAP, "log_level": 2}


class Client:
    name = "confluent-kafka"
    version = f"{confluent_kafka.__version__}/librdkafka-{confluent_kafka.libversion()[0]}"
    codecs = ("none", "gzip", "snappy", "lz4", "zstd")

    def __init__(self):
        self.admin = AdminClient(COMMON)
        self.consumer = Consumer(
            COMMON | {"group.id": "unused", "enable.auto.commit": False, "auto.offset.reset": "error"}
        )

    def create(self, topic, partitions, config):
        new = NewTopic(topic, num_partitions=partitions, replication_factor=REPLICATION, config=config)
        self._wait(self.admin.create_topics([new], operation_timeout=15))

    def delete(self, topic):
        self._wait(self.admin.delete_topics([topic], operation_timeout=15))

    @staticmethod
    def _wait(futures):
        return {key: future.result(20) for key, future in futures.items()}

    def produce(self, topic, codec, sent):
        producer = Producer(
            COMMON
            | {"acks": "all", "enable.idempotence": True, "compression.type": codec, "linger.ms": 5}
            | {"message.max.bytes": 4 * MAX_MESSAGE_BYTES}
        )
        acks = [None] * len(sent)

        def delivered(number):
            def report(error, message):
                acks[number] = KafkaException(error) if error else (message.partition(), message.offset())

            return report

        for i, record in enumerate(sent):
            producer.produce(
                topic,
                key=record.key,
                value=record.value,
                headers=list(record.headers),
                timestamp=record.timestamp,
                on_delivery=delivered(i),
            )
            producer.poll(0)
        if producer.flush(60):
            raise Mismatch("records without an acknowledgement after 60 s")
        for ack in acks:
            if isinstance(ack, Exception):
                raise ack
        return acks

    def read(self, topic, ends):
        rows = {p: [] for p in ends}
        starts = self.earliest_offsets(topic, len(ends))
        self.consumer.assign([TopicPartition(topic, p, starts[p]) for p in ends])
        left = sum(ends[p] - starts[p] for p in ends)
        while left > 0:
            for message in self.consumer.consume(min(left, 1000), timeout=10) or [None]:
                if message is None:
                    raise Mismatch(f"no record for 10 s, {left} still to come")
                if message.error():
                    raise KafkaException(message.error())
                record = Record(
                    message.key(), message.value(), tuple(message.headers() or ()), message.timestamp()[1]
                )
                rows[message.partition()].append((message.offset(), record))
                left -= 1
        self.consumer.unassign()
        return rows

    def _list_offsets(self, topic, partitions, spec):
        wanted = {TopicPartition(topic, p): spec for p in range(partitions)}
        return {tp.partition: info.offset for tp, info in self._wait(self.admin.list_offsets(wanted)).items()}

    def end_offsets(self, topic, partitions):
        return self._list_offsets(topic, partitions, OffsetSpec.latest())

    def earliest_offsets(self, topic, partitions):
        return self._list_offsets(topic, partitions, OffsetSpec.earliest())

    def offset_by_time(self, topic, partition, timestamp):
        found = self.consumer.offsets_for_times([TopicPartition(topic, partition, timestamp)], 10)[0]
        if found.error:
            raise KafkaException(found.error)
        return None if found.offset == OFFSET_END else found.offset

    def topics(self):
        return set(self.admin.list_topics(timeout=10).topics)

    def describe(self, topic):
        described = self.admin.describe_topics(TopicCollection([topic]))[topic].result(20)
        return {p.id: (p.leader.id, len(p.replicas), len(p.isr)) for p in described.partitions}

    def brokers(self):
        return {node.id for node in self.admin.describe_cluster().result(20).nodes}

    def config(self, topic):
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        entries = self.admin.describe_configs([resource])[resource].result(20)
        return {name: entry.value for name, entry in entries.items()}

    def set_config(self, topic, key, value):
        entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
        self._wait(self.admin.incremental_alter_configs([resource]))

    def add_partitions(self, topic, total):
        self._wait(self.admin.create_partitions([NewPartitions(topic, total)], operation_timeout=15))

    def delete_records(self, topic, partition, before):
        wanted = TopicPartition(topic, partition, before)
        (deleted,) = self._wait(self.admin.delete_records([wanted])).values()
        return deleted.low_watermark

    @staticmethod
    def error_code(error):
        return error.args[0].code() if isinstance(error, KafkaException) else None
