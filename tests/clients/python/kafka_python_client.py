"""kafka-python behind the calls that plan.py and matrix.py use."""

import re

import kafka
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, OffsetSpec

from plan import BOOTSTRAP, MAX_MESSAGE_BYTES, REPLICATION, Mismatch, Record

SERVERS = BOOTSTRAP.split(",")


class Refused(Exception):
    """An error that the library gives back as text only; its number stands in `[Error N]`."""

    @property
    def errno(self):
        found = re.match(r"\[Error (\d+)\]", str(self))
        return int(found[1]) if found else None


class Client:
    name = "kafka-python"
    version = kafka.__version__
    codecs = ("none", "gzip", "snappy", "lz4", "zstd")

    def __init__(self):
        self.admin = KafkaAdminClient(bootstrap_servers=SERVERS)
        self.consumer = KafkaConsumer(bootstrap_servers=SERVERS, group_id=None, auto_offset_reset="earliest")

    def create(self, topic, partitions, config):
        wanted = {"num_partitions": partitions, "replication_factor": REPLICATION, "configs": config}
        self.admin.create_topics({topic: wanted}, timeout_ms=15_000)

    def delete(self, topic):
        self.admin.delete_topics([topic], timeout_ms=15_000)

    def produce(self, topic, codec, sent):
        producer = KafkaProducer(
            bootstrap_servers=SERVERS,
            acks="all",
            enable_idempotence=True,
            compression_type=None if codec == "none" else codec,
            linger_ms=5,
            max_request_size=4 * MAX_MESSAGE_BYTES,
        )
        futures = [
            producer.send(
                topic,
                key=record.key,
                value=record.value,
                headers=list(record.headers),
                timestamp_ms=record.timestamp,
            )
            for record in sent
        ]
        try:
            producer.flush(60)
            placed = [future.get(10) for future in futures]
        finally:
            producer.close(timeout=5)
        return [(metadata.partition, metadata.offset) for metadata in placed]

    def read(self, topic, ends):
        rows = {p: [] for p in ends}
        starts = self.earliest_offsets(topic, len(ends))
        self.consumer.assign([TopicPartition(topic, p) for p in ends])
        for p in ends:
            self.consumer.seek(TopicPartition(topic, p), starts[p])
        left = sum(ends[p] - starts[p] for p in ends)
        while left > 0:
            polled = self.consumer.poll(timeout_ms=10_000)
            if not polled:
                raise Mismatch(f"no record for 10 s, {left} still to come")
            for tp, messages in polled.items():
                for message in messages:
                    record = Record(message.key, message.value, tuple(message.headers), message.timestamp)
                    rows[tp.partition].append((message.offset, record))
                left -= len(messages)
        return rows

    def _list_offsets(self, topic, partitions, spec):
        wanted = {TopicPartition(topic, p): spec for p in range(partitions)}
        return {tp.partition: found.offset for tp, found in self.admin.list_partition_offsets(wanted).items()}

    def end_offsets(self, topic, partitions):
        return self._list_offsets(topic, partitions, OffsetSpec.LATEST)

    def earliest_offsets(self, topic, partitions):
        return self._list_offsets(topic, partitions, OffsetSpec.EARLIEST)

    def offset_by_time(self, topic, partition, timestamp):
        wanted = TopicPartition(topic, partition)
        found = self.consumer.offsets_for_times({wanted: timestamp})[wanted]
        return None if found is None or found.offset < 0 else found.offset

    def topics(self):
        return set(self.admin.list_topics())

    def describe(self, topic):
        (described,) = self.admin.describe_topics([topic])
        return {
            p["partition_index"]: (p["leader_id"], len(p["replica_nodes"]), len(p["isr_nodes"]))
            for p in described["partitions"]
        }

    def brokers(self):
        return {node["broker_id"] for node in self.admin.describe_cluster()["brokers"]}

    def config(self, topic):
        found = self.admin.describe_configs([ConfigResource("TOPIC", topic)], config_filter="all")
        return {name: entry["value"] for name, entry in found["topic"][topic].items()}

    def set_config(self, topic, key, value):
        result = self.admin.alter_configs([ConfigResource("TOPIC", topic, {key: value})])["topic"][topic]
        if result != "OK":
            raise Refused(result)

    def add_partitions(self, topic, total):
        self.admin.create_partitions({topic: total}, timeout_ms=15_000)

    def delete_records(self, topic, partition, before):
        wanted = TopicPartition(topic, partition)
        return self.admin.delete_records({wanted: before}, timeout_ms=15_000)[wanted]["low_watermark"]

    @staticmethod
    def error_code(error):
        return getattr(error, "errno", None)
