"""A rolling restart of a group's members: `rolling.py PROTOCOL MEMBERS PARTITIONS`.

Every member, one after the other, leaves and is replaced. The group must move what the leaving one had and what the new one
gets, and nothing else. Printed: partitions moved for no reason, the longest time a partition was not read, records read twice.
With FLOTILLA_LONG=1 at the cluster's own heartbeat intervals, which bound the pauses.
A cooperative assignor of the classic protocol runs in the client, so that only the consumer protocol's moves (KIP-848) are Flotilla's.
"""

import sys
import threading
import time

import confluent_kafka
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from group import hurry
from plan import BOOTSTRAP, LONG, REPLICATION, Mismatch, Report, expect, topic_name

PATIENCE_S = 60
PERIOD_S = 0.05  # between two records of a partition


class Member(threading.Thread):
    """A consumer in a thread of its own; commits what it has read and leaves when told."""

    def __init__(self, run):
        super().__init__(daemon=True)
        self.run_of, self.owned, self.leaving, self.error = run, set(), threading.Event(), None
        config = {"bootstrap.servers": BOOTSTRAP, "group.id": run.group, "group.protocol": run.protocol}
        config |= {"auto.offset.reset": "earliest", "auto.commit.interval.ms": 500, "log_level": 2}
        if run.protocol == "classic":
            config["partition.assignment.strategy"] = "cooperative-sticky"
            config |= {} if LONG else {"heartbeat.interval.ms": 1000}
        self.consumer = Consumer(config)
        self.start()

    def run(self):
        try:
            self.consumer.subscribe([self.run_of.topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)
            while not self.leaving.is_set():
                for message in self.consumer.consume(100, timeout=0.05):
                    if message.error():
                        raise KafkaException(message.error())
                    self.run_of.note(message.partition(), message.offset())
            self.consumer.close()
        except Exception as error:
            self.error = error

    def _assigned(self, consumer, partitions):
        self.owned |= {tp.partition for tp in partitions}
        consumer.incremental_assign(partitions)

    def _revoked(self, consumer, partitions):
        self.owned -= {tp.partition for tp in partitions}
        consumer.incremental_unassign(partitions)

    def leave(self):
        self.leaving.set()
        self.join(PATIENCE_S)
        expect("a member that leaves has left", self.is_alive(), False)


class Rolling:
    """The group, its producer and what was read when."""

    def __init__(self, protocol, partitions):
        self.protocol, self.partitions = protocol, partitions
        self.topic = topic_name("confluent", f"rolling-{protocol}")
        self.group = f"{self.topic}-group"
        self.lock, self.ended = threading.Lock(), threading.Event()
        self.last, self.pause, self.read, self.twice = {}, 0.0, {}, 0
        self.sent = [0] * partitions
        self.members = []

    def note(self, partition, offset):
        now = time.monotonic()
        with self.lock:
            self.pause = max(self.pause, now - self.last.get(partition, now))
            self.last[partition] = now
            seen = self.read.setdefault(partition, set())
            self.twice += offset in seen
            seen.add(offset)

    def produce(self):
        producer = Producer({"bootstrap.servers": BOOTSTRAP, "acks": "all", "linger.ms": 5})
        due = time.monotonic()
        while not self.ended.is_set():
            for partition in range(self.partitions):
                producer.produce(self.topic, value=b"flotilla", partition=partition)
                self.sent[partition] += 1
            producer.poll(0)
            due += PERIOD_S
            time.sleep(max(0, due - time.monotonic()))
        expect("records without an acknowledgement", producer.flush(30), 0)

    def owners(self):
        """Each partition's owner; None while one has none or two, or a member has no part."""
        parts = [(member, set(member.owned)) for member in self.members]
        count = sum(len(part) for _, part in parts)
        if count != self.partitions or max(len(part) for _, part in parts) - min(len(part) for _, part in parts) > 1:
            return None
        owners = {partition: member for member, part in parts for partition in part}
        return owners if len(owners) == self.partitions else None

    def settle(self, what):
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for member in self.members:
                if member.error:
                    raise member.error
            owners = self.owners()
            if owners:
                return owners
            time.sleep(0.02)
        raise Mismatch(f"{what}: not settled after {PATIENCE_S} s: {[sorted(member.owned) for member in self.members]}")

    def restart_each(self, count):
        """How many partitions moved, and how many of them between two members of which neither left nor came."""
        self.members = [Member(self) for _ in range(count)]
        before, moved, needless = self.settle("start"), 0, 0
        self.last, self.pause = {}, 0.0
        for _ in range(count):
            old = self.members.pop(0)
            old.leave()
            between = self.settle("one left")
            needless += sum(1 for p in between if before[p] is not between[p] and before[p] is not old)
            new = Member(self)
            self.members.append(new)
            after = self.settle("one came")
            needless += sum(1 for p in after if between[p] is not after[p] and after[p] is not new)
            moved += sum(between[p] is not before[p] for p in after) + sum(after[p] is not between[p] for p in after)
            before = after
        return moved, needless

    def drain(self):
        wanted = [set(range(sent)) for sent in self.sent]
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with self.lock:
                if all(self.read.get(partition) == wanted[partition] for partition in range(self.partitions)):
                    return
            time.sleep(0.1)
        raise Mismatch("not every record was read")


def main(protocol, members, partitions):
    report = Report("confluent-kafka", confluent_kafka.__version__, PATIENCE_S * members)
    rolling = Rolling(protocol, partitions)

    def run():
        new = NewTopic(rolling.topic, num_partitions=partitions, replication_factor=REPLICATION)
        admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
        admin.create_topics([new], operation_timeout=15)[rolling.topic].result(20)
        if not LONG:
            hurry(admin)
        producing = threading.Thread(target=rolling.produce, daemon=True)
        producing.start()
        start = time.monotonic()
        moved, needless = rolling.restart_each(members)
        seconds = time.monotonic() - start
        rolling.ended.set()
        producing.join(PATIENCE_S)
        rolling.drain()
        for member in rolling.members:
            member.leave()
        print(
            f"rolling protocol={protocol} members={members} partitions={partitions} moved={moved} needless={needless} "
            f"longest_pause_ms={(rolling.pause - PERIOD_S) * 1000:.0f} read_twice={rolling.twice} seconds={seconds:.0f}",
            flush=True,
        )
        if protocol == "consumer":
            expect("partitions moved for no reason", needless, 0)
        return sum(rolling.sent)

    report.check(f"rolling/{protocol}", run)
    report.finish()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
