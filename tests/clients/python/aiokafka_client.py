"""aiokafka behind the calls that plan.py and matrix.py use; its coroutines run on one loop of our own."""

import asyncio

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from plan import BOOTSTRAP, MAX_MESSAGE_BYTES, REPLICATION, Mismatch, Record


class Client:
    name = "aiokafka"
    version = aiokafka.__version__
    codecs = ("none", "gzip", "snappy", "lz4", "zstd")

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self._run(self._start())

    def _run(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    async def _start(self):
        self.admin = AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP)
        self.consumer = AIOKafkaConsumer(
            bootstrap_servers=BOOTSTRAP, group_id=None, auto_offset_reset="earliest", enable_auto_commit=False
        )
        await self.admin.start()
        await self.consumer.start()

    def create(self, topic, partitions, config):
        new = NewTopic(topic, partitions, REPLICATION, topic_configs=config)
        response = self._run(self.admin.create_topics([new], timeout_ms=15_000))
        raise_code(response.topic_errors[0][1])

    def delete(self, topic):
        response = self._run(self.admin.delete_topics([topic], timeout_ms=15_000))
        raise_code(response.topic_error_codes[0][1])

    def produce(self, topic, codec, sent):
        return self._run(self._produce(topic, codec, sent))

    async def _produce(self, topic, codec, sent):
        producer = AIOKafkaProducer(
            bootstrap_servers=BOOTSTRAP,
            acks="all",
            enable_idempotence=True,
            compression_type=None if codec == "none" else codec,
            linger_ms=5,
            max_request_size=4 * MAX_MESSAGE_BYTES,
        )
        await producer.start()
        try:
            futures = [
                await producer.send(
                    topic,
                    key=record.key,
                    value=record.value,
                    headers=list(record.headers),
                    timestamp_ms=record.timestamp,
                )
                for record in sent
            ]
            placed = await asyncio.wait_for(asyncio.gather(*futures), 60)
        finally:
            await producer.stop()
        return [(metadata.partition, metadata.offset) for metadata in placed]

    def read(self, topic, ends):
        return self._run(self._read(topic, ends))

    async def _read(self, topic, ends):
        rows = {p: [] for p in ends}
        wanted = self._assign(topic, ends)
        starts = await self.consumer.beginning_offsets(wanted)
        for tp in wanted:
            self.consumer.seek(tp, starts[tp])
        left = sum(ends[tp.partition] - starts[tp] for tp in wanted)
        while left > 0:
            polled = await self.consumer.getmany(timeout_ms=10_000)
            if not polled:
                raise Mismatch(f"no record for 10 s, {left} still to come")
            for tp, messages in polled.items():
                for message in messages:
                    record = Record(message.key, message.value, tuple(message.headers), message.timestamp)
                    rows[tp.partition].append((message.offset, record))
                left -= len(messages)
        return rows

    def end_offsets(self, topic, partitions):
        return self._run(self._offsets(self.consumer.end_offsets, topic, partitions))

    def earliest_offsets(self, topic, partitions):
        return self._run(self._offsets(self.consumer.beginning_offsets, topic, partitions))

    def _assign(self, topic, partitions):
        # The consumer asks for metadata of assigned topics only, so without this ListOffsets waits for minutes.
        wanted = [TopicPartition(topic, p) for p in partitions]
        self.consumer.assign(wanted)
        return wanted

    async def _offsets(self, ask, topic, partitions):
        found = await ask(self._assign(topic, range(partitions)))
        return {tp.partition: offset for tp, offset in found.items()}

    def offset_by_time(self, topic, partition, timestamp):
        wanted = TopicPartition(topic, partition)
        found = self._run(self.consumer.offsets_for_times({wanted: timestamp}))[wanted]
        return None if found is None else found.offset

    def topics(self):
        return set(self._run(self.admin.list_topics()))

    def describe(self, topic):
        (described,) = self._run(self.admin.describe_topics([topic]))
        raise_code(described["error_code"])
        return {
            p["partition"]: (p["leader"], len(p["replicas"]), len(p["isr"])) for p in described["partitions"]
        }

    def brokers(self):
        return {node["node_id"] for node in self._run(self.admin.describe_cluster())["brokers"]}

    def config(self, topic):
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        (response,) = self._run(self.admin.describe_configs([resource]))
        ((code, _, _, _, entries),) = response.resources
        raise_code(code)
        return {entry[0]: entry[1] for entry in entries}

    def set_config(self, topic, key, value):
        # AlterConfigs replaces all a topic has set, so what stays must be sent again.
        kept = {name: old for name, old in self.config(topic).items() if name == "max.message.bytes"}
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, kept | {key: value})
        response = self._run(self.admin.alter_configs([resource]))[0]
        raise_code(response.resources[0][0])

    def add_partitions(self, topic, total):
        self._run(self.admin.create_partitions({topic: NewPartitions(total)}, timeout_ms=15_000))

    def delete_records(self, topic, partition, before):
        wanted = TopicPartition(topic, partition)
        deleted = self._run(self.admin.delete_records({wanted: RecordsToDelete(before)}, timeout_ms=15_000))
        return deleted[wanted]

    @staticmethod
    def error_code(error):
        return getattr(error, "errno", None)


def raise_code(code):
    """Raises the library's exception for a Kafka error code other than 0."""
    if code:
        raise for_code(code)
