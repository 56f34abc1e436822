"""A member of a group for group.py: `member.py confluent|kafka-python|aiokafka GROUP TOPIC classic|consumer`."""

import asyncio
import os
import sys
import threading

from plan import BOOTSTRAP

SESSION_MS = 20000


def say(word, rows):
    sys.stdout.write("".join(f"{word} {partition} {offset}\n" for partition, offset in rows))
    sys.stdout.flush()


def input_ended():
    """An event that is set when the input ends."""
    ended = threading.Event()

    def wait():
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    return ended


def confluent(group, topic, protocol, ended):
    from confluent_kafka import Consumer, KafkaException

    config = {"bootstrap.servers": BOOTSTRAP, "group.id": group, "group.protocol": protocol}
    config |= {"auto.offset.reset": "earliest", "enable.auto.commit": False, "log_level": 2}
    if protocol == "classic":
        config |= {"session.timeout.ms": SESSION_MS, "partition.assignment.strategy": "cooperative-sticky"}
    consumer = Consumer(config)
    consumer.subscribe([topic])
    while not ended.is_set():
        rows = {}
        for message in consumer.consume(500, timeout=0.2):
            if message.error():
                raise KafkaException(message.error())
            rows.setdefault(message.partition(), []).append(message.offset())
        say("got", [(partition, offset) for partition, offsets in rows.items() for offset in offsets])
        if rows:
            try:
                done = consumer.commit(asynchronous=False)
                say("committed", [(tp.partition, tp.offset) for tp in done if not tp.error])
            except KafkaException as error:
                print(f"# {error}", flush=True)  # a rebalance came between: others read it again
    consumer.close()


def kafka_python(group, topic, _, ended):
    from kafka import KafkaConsumer
    from kafka.errors import CommitFailedError, KafkaError

    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=BOOTSTRAP.split(","),
        group_id=group,
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=1000,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    while not ended.is_set():
        polled = consumer.poll(timeout_ms=200)
        say("got", [(tp.partition, message.offset) for tp, messages in polled.items() for message in messages])
        if polled:
            try:
                consumer.commit()
                say("committed", [(tp.partition, messages[-1].offset + 1) for tp, messages in polled.items()])
            except (CommitFailedError, KafkaError) as error:
                print(f"# {error}", flush=True)
    consumer.close()


def aiokafka(group, topic, _, ended):
    asyncio.run(aiokafka_member(group, topic, ended))


async def aiokafka_member(group, topic, ended):
    from aiokafka import AIOKafkaConsumer
    from aiokafka.errors import KafkaError

    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=BOOTSTRAP,
        group_id=group,
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=1000,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    while not ended.is_set():
        polled = await consumer.getmany(timeout_ms=200)
        say("got", [(tp.partition, message.offset) for tp, messages in polled.items() for message in messages])
        if polled:
            try:
                await consumer.commit()
                say("committed", [(tp.partition, messages[-1].offset + 1) for tp, messages in polled.items()])
            except KafkaError as error:
                print(f"# {error}", flush=True)
    await consumer.stop()


if __name__ == "__main__":
    library = {"confluent": confluent, "kafka-python": kafka_python, "aiokafka": aiokafka}[sys.argv[1]]
    library(*sys.argv[2:5], input_ended())
    os._exit(0)
