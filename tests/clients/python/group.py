"""Three members of one group over 12 partitions, one of them killed -9: `group.py NAME PROTOCOL COMMAND...`.

COMMAND GROUP TOPIC PROTOCOL is a member of some client library, in a process of its own: it reads, prints `got PARTITION
OFFSET`, commits, prints `committed PARTITION OFFSET` (of the next record), a line each, and leaves when its input ends.
Checked: every record is read, the three share the partitions evenly, the dead one's move and go on at its commit, what is
committed at the end is the end, and who comes back reads what is new and nothing else.
PROTOCOL migrate: nobody is killed; the three are rolled one by one from the classic to the consumer protocol and back, while
nothing may be lost, read by two at a time, or read again unless its commit was refused.
"""

import os
import signal
import subprocess
import sys
import threading
import time

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic

from plan import BOOTSTRAP, REPLICATION, Mismatch, Report, expect, topic_name

PARTITIONS = 12
MEMBERS = 3
# Until a dead member is noticed, its session's 20 s, and what comes after.
PATIENCE_S = 90
# Kafka's own default of the consumer protocol is 45 s; less than 20 s, and a machine whose disk stalls takes the living for dead.
SETTINGS = {"group.consumer.session.timeout.ms": "20000", "group.consumer.heartbeat.interval.ms": "1000"}


def hurry(admin):
    """Lets the cluster's groups of the consumer protocol notice within a second what they notice within five by default."""
    for broker in admin.list_topics(timeout=20).brokers:
        entries = [ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in SETTINGS.items()]
        resource = ConfigResource(ConfigResource.Type.BROKER, str(broker), incremental_configs=entries)
        try:
            admin.incremental_alter_configs([resource])[resource].result(20)
        except KafkaException:
            pass  # Apache Kafka has these in the file only


class Member:
    """A process and what it has said."""

    def __init__(self, command, run):
        self.run, self.got, self.committed, self.last, self.refused = run, {}, {}, {}, 0
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            words = line.split()
            with self.run.lock:
                if words[:1] == ["got"]:
                    partition, offset = int(words[1]), int(words[2])
                    self.got.setdefault(partition, []).append((time.monotonic(), offset))
                    self.last[partition] = time.monotonic()
                    self.run.seen.setdefault(partition, set()).add(offset)
                elif words[:1] == ["committed"]:
                    self.committed[int(words[1])] = int(words[2])
                else:
                    self.refused += words[:1] == ["#"]
                    self.run.words.append(line.strip())

    def owns(self, since):
        return {partition for partition, at in self.last.items() if at >= since}

    def end(self):
        self.process.stdin.close()
        code = self.process.wait(PATIENCE_S)
        self.reader.join(10)
        expect("exit code of a member that leaves", code, 0)


class Run:
    """One group: its topic, the producer's clock and its members."""

    def __init__(self, name, protocol, command):
        self.lock, self.seen, self.words = threading.Lock(), {}, []
        self.topic = topic_name(name, f"group-{protocol}")
        self.group, self.command = f"{self.topic}-group", [*command, f"{self.topic}-group", self.topic]
        self.protocol = protocol
        self.admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
        self.producer = Producer({"bootstrap.servers": BOOTSTRAP, "acks": "all", "enable.idempotence": True, "linger.ms": 5})
        self.ends = [0] * PARTITIONS
        self.members = []

    def prepare(self):
        new = NewTopic(self.topic, num_partitions=PARTITIONS, replication_factor=REPLICATION)
        self.admin.create_topics([new], operation_timeout=15)[self.topic].result(20)
        hurry(self.admin)

    def produce(self, rounds=1):
        for _ in range(rounds):
            for partition in range(PARTITIONS):
                self.producer.produce(self.topic, value=b"flotilla", partition=partition)
                self.ends[partition] += 1
        if self.producer.flush(30):
            raise Mismatch("records without an acknowledgement after 30 s")

    def start(self, protocol=None):
        member = Member([*self.command, protocol or self.protocol], self)
        self.members.append(member)
        return member

    def until(self, what, check):
        """Produces a round every 100 ms until `check()`; what it gives is how many seconds that took."""
        start = time.monotonic()
        while True:
            self.produce()
            time.sleep(0.1)
            with self.lock:
                if check():
                    return time.monotonic() - start
            if time.monotonic() - start > PATIENCE_S:
                with self.lock:
                    owned = [sorted(member.owns(time.monotonic() - 2)) for member in self.members]
                raise Mismatch(f"{what}: not after {PATIENCE_S} s; read from {owned}; said {self.words[-5:]}")

    def is_even(self, members):
        """Whether exactly these read, equal parts, and all of it, for two seconds."""
        owned = [member.owns(time.monotonic() - 2) for member in members]
        parts = [len(part) for part in owned]
        return sum(parts) == PARTITIONS and len(set().union(*owned)) == PARTITIONS and max(parts) - min(parts) <= 1

    def drain(self):
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with self.lock:
                missing = {
                    p: len(gone)
                    for p in range(PARTITIONS)
                    if (gone := set(range(self.ends[p])) - self.seen.get(p, set()))
                }
            if not missing:
                return
            if time.monotonic() > deadline:
                raise Mismatch(f"records never read, by partition: {missing}; members said {self.words[-5:]}")
            time.sleep(0.1)

    def check_moved(self, dead, killed_at):
        """Of the dead member's partitions the next owner begins where the dead one committed last."""
        for partition in dead.owns(killed_at - 2):
            firsts = [
                next(offset for at, offset in member.got[partition] if at > killed_at)
                for member in self.members
                if member is not dead and any(at > killed_at for at, _ in member.got.get(partition, []))
            ]
            begun, read = min(firsts), dead.got[partition][-1][1] + 1
            if not dead.committed.get(partition, 0) <= begun <= read:
                raise Mismatch(
                    f"partition {partition}: committed {dead.committed.get(partition)}, read to {read}, begun again at {begun}"
                )

    def check_committed(self):
        wanted = ConsumerGroupTopicPartitions(self.group, [TopicPartition(self.topic, p) for p in range(PARTITIONS)])
        (future,) = self.admin.list_consumer_group_offsets([wanted]).values()
        committed = {tp.partition: tp.offset for tp in future.result(20).topic_partitions}
        expect("committed at the end", committed, dict(enumerate(self.ends)))

    def check_resumed(self):
        before = list(self.ends)
        self.produce()
        member = self.start()
        self.drain()
        member.end()
        firsts = {partition: rows[0][1] for partition, rows in member.got.items()}
        expect("where a new member begins", firsts, dict(enumerate(before)))

    def run(self):
        self.prepare()
        self.produce(10)
        members = [self.start() for _ in range(MEMBERS)]
        joined = self.until("three members share the partitions", lambda: self.is_even(members))
        killed, rest = members[0], members[1:]
        killed_at = time.monotonic()
        os.kill(killed.process.pid, signal.SIGKILL)
        killed.reader.join(10)
        moved = self.until("two members share the partitions", lambda: self.is_even(rest))
        self.drain()
        self.check_moved(killed, killed_at)
        time.sleep(1)
        for member in rest:
            member.end()
        self.check_committed()
        self.check_resumed()
        print(f"# {self.topic}: shared after {joined:.1f} s, moved after {moved:.1f} s", flush=True)
        return sum(self.ends)

    def check_type(self, wanted):
        listed = self.admin.list_consumer_groups().result(20).valid
        (kind,) = [group.type.name.lower() for group in listed if group.group_id == self.group]
        expect("type of the group", kind, wanted)

    def roll(self, members, protocol):
        """Replaces the members one by one, each when the one before it reads; gives how long the slowest took for that."""
        longest = 0
        for place in range(MEMBERS):
            members[place].end()
            fresh = members[place] = self.start(protocol)
            longest = max(longest, self.until(f"{protocol} member {place} reads", lambda: fresh.got))
        self.until(f"three {protocol} members share the partitions", lambda: self.is_even(members))
        self.check_type(protocol)
        return longest

    def read_again(self):
        """How many records were read more than once; fails if nobody's commit was refused, or two read side by side."""
        again = sum(len(rows) for member in self.members for rows in member.got.values())
        again -= sum(len(offsets) for offsets in self.seen.values())
        refused = sum(member.refused for member in self.members)
        if again and not refused:
            raise Mismatch(f"{again} records read again though no commit was refused")
        for partition in range(PARTITIONS):
            rows = sorted(
                (at, offset, number)
                for number, member in enumerate(self.members)
                for at, offset in member.got.get(partition, [])
            )
            turns = [row for before, row in zip([(0, 0, None), *rows], rows) if before[2] != row[2]]
            for (_, first, one), (_, begun, other) in zip(turns, turns[1:]):
                if begun < first:
                    raise Mismatch(f"partition {partition}: member {one} began at {first}, then {other} at {begun}")
        return again

    def migrate(self):
        self.prepare()
        self.produce(10)
        members = [self.start("classic") for _ in range(MEMBERS)]
        self.until("three members share the partitions", lambda: self.is_even(members))
        self.check_type("classic")
        there = self.roll(members, "consumer")
        back = self.roll(members, "classic")
        self.drain()
        time.sleep(1)
        for member in members:
            member.end()
        self.check_committed()
        again = self.read_again()
        print(f"# {self.topic}: a new member read after at most {there:.1f} s there, {back:.1f} s back; {again} read again", flush=True)
        return sum(self.ends)

    def kill(self):
        for member in self.members:
            member.process.kill()


def main(name, version, protocol, command):
    report = Report(name, version, 3 * PATIENCE_S)
    run = Run(name, protocol, command)
    report.check(f"group/{protocol}", run.migrate if protocol == "migrate" else run.run)
    run.kill()
    report.finish()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
