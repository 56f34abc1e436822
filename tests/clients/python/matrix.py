"""The admin and error checks that every client with the calls for them must pass; knows no client library."""

import time

from plan import MAX_MESSAGE_BYTES, PARTITIONS, REPLICATION, Mismatch, Record
from plan import create, eventually, expect, records, short, topic_name

UNKNOWN_TOPIC_OR_PARTITION = 3
MESSAGE_TOO_LARGE = 10
INVALID_PARTITIONS = 37
TOPIC_ALREADY_EXISTS = 36
INVALID_CONFIG = 40
OFFSET_OUT_OF_RANGE = 1


def expect_error(client, what, wanted, run):
    """Runs `run()`, which must fail with the Kafka error code `wanted`."""
    try:
        got = run()
    except Mismatch:
        raise
    except Exception as error:
        code = client.error_code(error)
        if code != wanted:
            raise Mismatch(f"{what}: got error {code} ({short(str(error))}), want {wanted}") from error
        return
    raise Mismatch(f"{what}: got {short(got)}, want error {wanted}")


def describe(client):
    """Create, list, describe, create again, delete, gone."""
    topic = topic_name(client.name, "admin")
    create(client, topic, PARTITIONS, {})
    expect("listed", topic in client.topics(), True)
    described = client.describe(topic)
    expect("partitions", sorted(described), list(range(PARTITIONS)))
    nodes = client.brokers()
    for partition, (leader, replicas, in_sync) in described.items():
        expect(f"leader of partition {partition} is a broker", leader in nodes, True)
        expect(f"replicas of partition {partition}", (replicas, in_sync), (REPLICATION, REPLICATION))
    expect_error(client, "create twice", TOPIC_ALREADY_EXISTS, lambda: client.create(topic, PARTITIONS, {}))
    client.delete(topic)
    eventually("listed after deletion", lambda: topic in client.topics(), False)
    expect_error(client, "delete twice", UNKNOWN_TOPIC_OR_PARTITION, lambda: client.delete(topic))
    return 6


def configs(client):
    """DescribeConfigs gives what was set and defaults for the rest; altering changes one key only."""
    topic = topic_name(client.name, "config")
    create(client, topic, 1, {"retention.ms": "86400000", "max.message.bytes": "100000"})
    eventually("retention.ms", lambda: client.config(topic).get("retention.ms"), "86400000")
    found = client.config(topic)
    expect("max.message.bytes", found.get("max.message.bytes"), "100000")
    for key, default in (("cleanup.policy", "delete"), ("compression.type", "producer")):
        expect(f"default of {key}", found.get(key), default)
    client.set_config(topic, "retention.ms", "3600000")
    eventually("retention.ms altered", lambda: client.config(topic).get("retention.ms"), "3600000")
    expect("max.message.bytes kept", client.config(topic).get("max.message.bytes"), "100000")
    expect_error(
        client, "bad value", INVALID_CONFIG, lambda: client.set_config(topic, "retention.ms", "yesterday")
    )
    client.delete(topic)
    return 7


def partitions_and_records(client):
    """CreatePartitions grows only; DeleteRecords moves the start and readers begin there."""
    topic = topic_name(client.name, "records")
    create(client, topic, 1, {})
    sent = records("none", 100)
    client.produce(topic, "none", sent)
    expect("low watermark", client.delete_records(topic, 0, 40), 40)
    expect("earliest after deletion", client.earliest_offsets(topic, 1), {0: 40})
    rows = client.read(topic, client.end_offsets(topic, 1))[0]
    expect("records left", [(offset, record) for offset, record in rows], list(enumerate(sent))[40:])
    expect_error(client, "delete past the end", OFFSET_OUT_OF_RANGE, lambda: client.delete_records(topic, 0, 101))
    client.add_partitions(topic, 3)
    eventually("partitions after growth", lambda: sorted(client.describe(topic)), [0, 1, 2])
    expect_error(client, "shrink", INVALID_PARTITIONS, lambda: client.add_partitions(topic, 2))
    client.delete(topic)
    return 6


def too_large(client):
    """A record over max.message.bytes is refused, the next small one is taken."""
    topic = topic_name(client.name, "large")
    create(client, topic, 1, {"max.message.bytes": "50000"})
    now = int(time.time() * 1000)  # retention takes what is old at any moment
    big = Record(b"big", bytes(60_000), (), now)
    small = Record(b"small", b"fits", (), now)
    expect_error(client, "60,000 bytes", MESSAGE_TOO_LARGE, lambda: client.produce(topic, "none", [big]))
    client.produce(topic, "none", [small])
    expect("read", client.read(topic, client.end_offsets(topic, 1)), {0: [(0, small)]})
    client.delete(topic)
    topic = topic_name(client.name, "large")
    create(client, topic, 1, {})
    large = Record(b"large", b"x" * (MAX_MESSAGE_BYTES - 1000), (), now)
    client.produce(topic, "none", [large])
    expect("read", client.read(topic, client.end_offsets(topic, 1)), {0: [(0, large)]})
    client.delete(topic)
    return 4


CHECKS = {
    "admin/describe": describe,
    "admin/configs": configs,
    "admin/partitions-records": partitions_and_records,
    "error/too-large": too_large,
}
