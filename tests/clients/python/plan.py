"""The records every Python client writes and the checks it must pass; knows nothing of any client library.

A client class has `name`, `version`, `codecs` and the calls used in `roundtrip`; whatever it reads back must be
what was produced: dense offsets from 0, equal keys, values and headers, produce order in each partition.
"""

import os
import secrets
import sys
import threading
import time
import traceback
from dataclasses import dataclass

BOOTSTRAP = os.environ.get("FLOTILLA_BOOTSTRAP", "127.0.0.1:9092")
REPLICATION = int(os.environ.get("FLOTILLA_RF", "3"))
LONG = os.environ.get("FLOTILLA_LONG") == "1"
RECORDS = int(os.environ.get("FLOTILLA_RECORDS", "10000"))
PARTITIONS = 4
KEYS = 97
TIMEOUT_S = 120
MAX_MESSAGE_BYTES = 1 << 20


@dataclass(frozen=True)
class Record:
    """One record as produced or as read back; `timestamp` in milliseconds since 1970."""

    key: bytes
    value: bytes | None
    headers: tuple
    timestamp: int


class Mismatch(Exception):
    """What was read back is not what was produced."""


def expect(what, actual, wanted):
    """Raises Mismatch unless `actual` equals `wanted`."""
    if actual != wanted:
        raise Mismatch(f"{what}: got {short(actual)}, want {short(wanted)}")


def short(value):
    text = repr(value)
    return text if len(text) <= 400 else text[:400] + "..."


def topic_name(client, codec):
    """A topic name no other run uses."""
    return f"client-{client}-{codec}-{secrets.token_hex(4)}"


def records(codec, count):
    """`count` keyed records; every 89th is a tombstone, sizes vary, timestamps rise by 1 ms."""
    base = int(time.time()) * 1000 - 3_600_000
    made = []
    for i in range(count):
        value = None if i % 89 == 88 else f"{codec} {i} ".encode() + b"flotilla " * (i % 23)
        headers = (("number", str(i).encode()), ("codec", codec.encode()), ("empty", b""))
        made.append(Record(f"key-{i % KEYS}".encode(), value, headers, base + i))
    return made


def verify(sent, acks, read):
    """Checks `read` ({partition: [(offset, Record)]}) against `sent` and `acks` ([(partition, offset)], or None)."""
    expect("partitions read", sorted(read), list(range(PARTITIONS)))
    expect("records read", sum(len(rows) for rows in read.values()), len(sent))
    by_number = {record.headers[0][1]: i for i, record in enumerate(sent)}
    home = {}
    for partition, rows in read.items():
        last = -1
        for wanted_offset, (offset, record) in enumerate(rows):
            place = f"partition {partition} offset {offset}"
            expect(f"{place}: dense offsets", offset, wanted_offset)
            number = by_number.get(record.headers[0][1] if record.headers else None)
            if number is None:
                raise Mismatch(f"{place}: headers of no record sent: {short(record.headers)}")
            expect(f"{place}: record {number}", record, sent[number])
            if number <= last:
                raise Mismatch(f"{place}: record {number} after {last}: produce order broken")
            last = number
            expect(f"key {record.key!r} in one partition", home.setdefault(record.key, partition), partition)
            if acks is not None:
                expect(f"acknowledged place of record {number}", acks[number], (partition, offset))


class Report:
    """Prints a line a check and remembers whether one failed."""

    def __init__(self, client, version, timeout_s=TIMEOUT_S):
        self.client, self.version, self.timeout_s, self.failed = client, version, timeout_s, False
        self.deadline = threading.Timer(timeout_s, self._out_of_time)
        self.deadline.daemon = True
        self.deadline.start()
        self.current = "start"

    def _out_of_time(self):
        print(f"FAIL {self.client} {self.version} {self.current}: not done after {self.timeout_s} s", flush=True)
        os._exit(1)

    def check(self, label, run):
        """Runs `run()`, which gives the number of things checked or raises."""
        self.current = label
        start = time.monotonic()
        try:
            count = run()
            print(f"ok {self.client} {self.version} {label} {count} {time.monotonic() - start:.2f}", flush=True)
        except Exception as error:
            self.failed = True
            where = traceback.extract_tb(error.__traceback__)[-1]
            print(
                f"FAIL {self.client} {self.version} {label}: {type(error).__name__}: {short(str(error))}"
                f" ({os.path.basename(where.filename)}:{where.lineno})",
                flush=True,
            )

    def finish(self):
        """Ends the process with the exit code of the whole program."""
        self.deadline.cancel()
        sys.stdout.flush()
        os._exit(1 if self.failed else 0)


def per_codec(codecs):
    """How many records each codec gets."""
    return RECORDS if LONG else max(1, RECORDS // len(codecs))


def eventually(what, run, wanted, patience_s=10):
    """Waits until `run()` gives `wanted`: brokers may learn of a change a little after its answer."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            got = run()
        except Exception as error:
            if time.monotonic() > deadline:
                raise
            got = error
        if got == wanted:
            return
        if time.monotonic() > deadline:
            expect(what, got, wanted)
        time.sleep(0.05)


def create(client, topic, partitions, config):
    """Creates a topic and waits until every partition has a leader and every broker asked knows the topic."""
    client.create(topic, partitions, config)
    ready = {p: True for p in range(partitions)}
    eventually(
        f"leaders of {topic}",
        lambda: {p: leader >= 0 for p, (leader, _, _) in client.describe(topic).items()},
        ready,
    )


def roundtrip(client, codec, count):
    """Creates a topic, produces `count` records with `codec`, reads all back, checks offsets by time, deletes."""
    topic = topic_name(client.name, codec)
    create(client, topic, PARTITIONS, {})
    sent = records(codec, count)
    acks = client.produce(topic, codec, sent)
    ends = client.end_offsets(topic, PARTITIONS)
    expect("sum of the end offsets", sum(ends.values()), count)
    read = client.read(topic, ends)
    verify(sent, acks, read)
    check_by_time(client, topic, read)
    client.delete(topic)
    return count


def check_by_time(client, topic, read):
    """ListOffsets: earliest is 0; by the timestamp of a record gives its offset; after the last gives none."""
    expect("earliest", client.earliest_offsets(topic, PARTITIONS), {p: 0 for p in range(PARTITIONS)})
    for partition, rows in read.items():
        for offset, record in (rows[0], rows[len(rows) // 2], rows[-1]):
            got = client.offset_by_time(topic, partition, record.timestamp)
            expect(f"offset at the time of partition {partition} offset {offset}", got, offset)
        got = client.offset_by_time(topic, partition, rows[-1][1].timestamp + 1000)
        expect(f"offset after the last time of partition {partition}", got, None)
