"""Runs Celery against FLOTILLA_AMQP (amqp://host:port,...): workers with late acknowledgements, each connected to another node, retries with a
countdown, tasks that are rejected to a dead letter queue, remote control, events."""

import ctypes
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time

NODES = os.environ.get("FLOTILLA_AMQP", "amqp://127.0.0.1:5672").split(",")
HOME = tempfile.TemporaryDirectory(prefix="flotilla-celery-")
JOURNAL = os.path.join(HOME.name, "journal")
os.environ |= {"FLOTILLA_RUN": secrets.token_hex(4), "FLOTILLA_JOURNAL": JOURNAL, "FLOTILLA_AMQP": ",".join(NODES)}

import celery
from kombu import Exchange, Queue

import celery_app as tasks
from celery_app import app
from plan import Mismatch, Report, eventually, expect

PR_SET_PDEATHSIG = 1
START_S = 40


class Worker:
    """`celery worker` with processes of its own, at one of the nodes."""

    def __init__(self, label, node, queue, processes=2, application="app"):
        self.name = f"{label}@{tasks.RUN}"
        nodes = NODES[node % len(NODES) :] + NODES[: node % len(NODES)]
        words = ["-A", f"celery_app:{application}", "worker", "-E", "-l", "warning", "-n", self.name, "-Q", queue.name, "-c", str(processes)]
        environment = os.environ | {"FLOTILLA_AMQP": ",".join(nodes)}
        here = os.path.dirname(os.path.abspath(__file__))
        # A group of its own, so that a kill takes its children too; it stops when this process ends, however that is.
        end_with_parent = lambda: ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        words = [sys.executable, "-m", "celery", *words]
        self.process = subprocess.Popen(words, env=environment, cwd=here, stdout=sys.stderr, start_new_session=True, preexec_fn=end_with_parent)

    def ready(self):
        """Waits until it answers; one with quorum queues first declares 28 queues and 29 exchanges, at each node anew."""
        deadline = time.monotonic() + START_S
        while not app.control.ping(destination=[self.name], timeout=0.5):
            if time.monotonic() > deadline:
                raise Mismatch(f"{self.name} does not answer for {START_S} s")
        return self

    def stop(self):
        self.process.terminate()
        self.process.wait(20)

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def journal(task):
    """What tasks of this name noted so far: [what, process, redelivered, time]."""
    if not os.path.exists(JOURNAL):
        return []
    with open(JOURNAL) as lines:
        return [line[1:] for line in map(json.loads, lines) if line[0] == task]


def noted(task, count, patience_s=10):
    eventually(f"times that {task} began", lambda: len(journal(task)), count, patience_s)
    return journal(task)


def messages(queue):
    with app.connection_for_read() as connection:
        return connection.default_channel.queue_declare(queue.name, passive=True).message_count


def taken(queue):
    """The next message, which is acknowledged."""
    with app.connection_for_read() as connection:
        bound = queue(connection.default_channel)
        got = []
        eventually(f"a message in {queue.name}", lambda: got.append(bound.get()) or got[-1] is not None, True)
        got[-1].ack()
        return got[-1]


def work_queue():
    """Both workers do tasks; each is done once, and none is left."""
    count = 200
    for number in range(count):
        tasks.do.apply_async([number])
    done = noted("do", count)
    expect("tasks done", sorted(number for number, *_ in done), list(range(count)))
    expect("workers that did some", len({process for _, process, *_ in done}), 2)
    eventually("messages left", lambda: messages(tasks.WORK), 0)
    return count


def requeue():
    """A task that is given back comes again, marked."""
    tasks.give_back.delay()
    expect("redelivered", [again for _, _, again, _ in noted("give_back", 2)], [False, True])
    return 2


def prefetch():
    """Of slow tasks each worker has as many as it has processes, the others stay in the queue."""
    for _ in range(10):
        tasks.slow.delay(0.7)
    noted("slow", 4)
    expect("messages left", messages(tasks.WORK), 6)
    noted("slow", 10)
    eventually("messages left", lambda: messages(tasks.WORK), 0)
    return 10


def retry():
    """A task that fails is sent again, to be done later."""
    tasks.fail_twice.delay()
    times = [at for *_, at in noted("fail_twice", 3)]
    waited = [second - first for first, second in zip(times, times[1:])]
    for got, least in zip(waited, (0.4, 0.8)):
        if got < least - 0.05:
            raise Mismatch(f"came after {got:.3f} s instead of {least} s")
    return 3


def countdown():
    """What is to wait is with the workers meanwhile, who raise their limit by it: more of them wait than the limit was."""
    before, count, start = len(journal("do")), 20, time.time()
    for number in range(count):
        tasks.do.apply_async([number], countdown=1)
    first = min(at for *_, at in noted("do", before + count)[before:])
    if first < start + 0.95:
        raise Mismatch(f"began after {first - start:.3f} s instead of 1 s")
    return count


def dead_letters():
    """A rejected task is a dead letter with its history, and so is what expires."""
    tasks.refuse.delay()
    with app.connection_for_write() as connection:
        waiting = Queue(tasks.name("ttl"), queue_arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": tasks.DEAD.name})
        waiting(connection.default_channel).declare()
        start = time.monotonic()
        for wanted, origin in (("rejected", tasks.WORK), ("expired", waiting)):
            if wanted == "expired":
                connection.Producer().publish("mortal", routing_key=waiting.name, expiration=0.5)
            death = taken(tasks.DEAD).headers["x-death"][0]
            expect("death", (death["reason"], death["queue"], death["count"]), (wanted, origin.name, 1))
        if time.monotonic() - start < 0.5:
            raise Mismatch("expired before its time")
        waiting(connection.default_channel).delete()
    return 2


def returned():
    """A publish waits for its confirm; what is mandatory and has no queue comes back before."""
    back = []
    with app.connection_for_write() as connection:
        producer = connection.Producer(on_return=lambda error, exchange, key, message: back.append((error.reply_code, key)))
        producer.publish("x", exchange="amq.topic", routing_key="nobody", mandatory=True)
        expect("returned", back, [(312, "nobody")])
        producer.publish("x", routing_key=tasks.DEAD.name, mandatory=True)
        expect("messages once confirmed", messages(tasks.DEAD), 1)
    taken(tasks.DEAD)
    return 2


def topic_exchange():
    """Words, stars and hashes."""
    exchange = Exchange(tasks.name("topic"), "topic")
    with app.connection_for_write() as connection:
        wanted = {"eu.*": {"eu.a"}, "#.error": {"eu.a.error", "us.error"}}
        queues = [Queue("", exchange, routing_key=pattern, exclusive=True)(connection.default_channel) for pattern in wanted]
        for queue in queues:
            queue.declare()
        for key in ("eu.a", "eu.a.error", "us.error", "us.a"):
            connection.Producer().publish(key, exchange=exchange, routing_key=key)
        for queue, keys in zip(queues, wanted.values()):
            got = set()
            eventually(queue.routing_key, lambda: got.update(m.payload for m in [queue.get(no_ack=True)] if m) or got, keys)
            expect("no more", queue.get(), None)
        exchange(connection.default_channel).delete()
    return 4


def priorities():
    """The highest first: one process takes one after the other."""
    with app.connection_for_write() as connection:
        tasks.RANKED(connection.default_channel).declare()
    for priority in (1, 9, 0, 5, 9):
        tasks.slow.apply_async([priority / 1000], queue=tasks.RANKED.name, priority=priority)
    before = len(journal("slow"))
    worker = Worker("ranked", 0, tasks.RANKED, processes=1).ready()
    order = [what * 1000 for what, *_ in noted("slow", before + 5)[before:]]
    expect("order", order, [9, 9, 5, 1, 0])
    worker.stop()
    return 5


def control():
    """Remote control: commands over a fanout exchange to the workers' own queues, answers to a queue of the asker's."""
    patience = {"timeout": 15, "limit": len(WORKERS)}
    active = app.control.inspect(**patience).active_queues()
    expect("queues of the workers", {key: [queue["name"] for queue in queues] for key, queues in active.items()}, {w.name: [tasks.WORK.name] for w in WORKERS})
    told = app.control.rate_limit("celery_app.do", "1000/s", reply=True, **patience)
    expect("answers", sorted(name for answer in told for name in answer), sorted(w.name for w in WORKERS))
    return 4


def events():
    """What workers tell of their tasks reaches a queue that is nobody else's and goes with its connection."""
    got, wanted = [], {"task-received", "task-started", "task-succeeded"}
    before, sent, deadline = len(journal("do")), 0, time.monotonic() + 30
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": lambda event: got.append(event["type"])})
        listener = threading.Thread(target=receiver.capture, kwargs={"limit": None, "timeout": 30}, daemon=True)
        listener.start()
        # The queue may come after the first of them.
        while not wanted <= set(got):
            if time.monotonic() > deadline:
                expect("events", wanted & set(got), wanted)
            tasks.do.delay(0)
            sent += 1
            time.sleep(1)
        receiver.should_stop = True
        listener.join(5)
    noted("do", before + sent)
    return len(wanted)


def lost_process():
    """A task whose process is killed is given back and done by another."""
    tasks.die.delay()
    expect("redelivered", [again for _, _, again, _ in noted("die", 2)], [False, True])
    return 2


def lost_worker():
    """A task whose worker is killed altogether is done by the other worker."""
    before = len(journal("slow"))
    tasks.slow.delay(2)
    first = noted("slow", before + 1)[-1]
    victim = next(worker for worker in WORKERS if worker.process.pid == first[1])
    victim.kill()
    WORKERS.remove(victim)
    again = noted("slow", before + 2)[-1]
    expect("redelivered", (again[2], again[1]), (True, WORKERS[0].process.pid))
    return 1


def delay_in_the_broker():
    """With quorum queues a countdown is a way through queues with times of 2^n s, from one's dead letters to the next."""
    worker = Worker("later", 2, tasks.LATER, application="quorum").ready()
    before, start = len(journal("do")), time.time()
    # 16 s in one queue, time enough to look into it, and 4 s in another.
    tasks.quorum.send_task("celery_app.do", [20], countdown=20)
    expect("messages that wait for 16 s", messages(Queue("celery_delayed_4")), 1)
    began = noted("do", before + 1, patience_s=45)[-1][-1]
    if not 19.9 < began - start < 30:
        raise Mismatch(f"began after {began - start:.3f} s instead of 20 s")
    worker.stop()
    return 1


CHECKS = {
    "work-queue": work_queue,
    "requeue": requeue,
    "prefetch": prefetch,
    "retry": retry,
    "countdown": countdown,
    "dead-letters": dead_letters,
    "returned": returned,
    "topic-exchange": topic_exchange,
    "priorities": priorities,
    "control": control,
    "events": events,
    "lost-process": lost_process,
    "lost-worker": lost_worker,
    "delay-in-the-broker": delay_in_the_broker,
}
WORKERS = []


def main():
    report = Report("celery", celery.__version__, 240)
    app.set_current()
    with app.connection_for_write() as connection:
        tasks.DEAD(connection.default_channel).declare()
    WORKERS.extend(Worker(label, node, tasks.WORK) for node, label in enumerate(("first", "second")))
    for worker in WORKERS:
        worker.ready()
    for label, check in CHECKS.items():
        report.check(label, check)
    for worker in WORKERS:
        worker.stop()
    with app.connection_for_write() as connection:
        for queue in (tasks.WORK, tasks.RANKED, tasks.LATER):
            queue(connection.default_channel).delete()
            queue.exchange(connection.default_channel).delete()
        tasks.DEAD(connection.default_channel).delete()
    HOME.cleanup()
    report.finish()


if __name__ == "__main__":
    main()
