"""The Celery applications that celery_client.py checks: `app` with priorities and dead letters, `quorum` with quorum queues, where what is to wait
does so in the broker. Their tasks note in the file JOURNAL what they do. Workers and the checks read the same environment."""

import json
import os
import signal
import time

from celery import Celery, shared_task
from celery.exceptions import Reject
from kombu import Exchange, Queue

RUN = os.environ["FLOTILLA_RUN"]
JOURNAL = os.environ["FLOTILLA_JOURNAL"]
NODES = [node + "//" for node in os.environ["FLOTILLA_AMQP"].split(",")]


def name(what):
    return f"celery-{what}-{RUN}"


def queue(what, **arguments):
    """A queue that a topic exchange of its own leads to."""
    exchange = Exchange(name(what), "topic")
    arguments = {"x-" + key.replace("_", "-"): value for key, value in arguments.items()}
    return Queue(name(what), exchange, routing_key=name(what), queue_arguments=arguments)


WORK = queue("work", dead_letter_exchange="", dead_letter_routing_key=name("dead"))
RANKED = queue("ranked", max_priority=10)
LATER = queue("later", queue_type="quorum")
DEAD = Queue(name("dead"))


def application(label, *queues):
    made = Celery(label, broker=NODES)
    made.conf.update(
        broker_connection_retry_on_startup=True,
        broker_transport_options={"confirm_publish": True},
        task_acks_late=True,
        task_default_queue=queues[0].name,
        task_ignore_result=True,
        task_queues=queues,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
    )
    return made


app = application("app", WORK, RANKED)
quorum = application("quorum", LATER)


def note(task, what):
    """Writes a line: the task's name, what it was told, its process, whether it came again, and when."""
    line = [task.name.rsplit(".")[-1], what, os.getppid(), task.request.delivery_info["redelivered"], time.time()]
    with open(JOURNAL, "a") as journal:
        journal.write(json.dumps(line) + "\n")


@shared_task(bind=True)
def do(self, number):
    note(self, number)


@shared_task(bind=True)
def slow(self, seconds):
    note(self, seconds)
    time.sleep(seconds)


@shared_task(bind=True, max_retries=2)
def fail_twice(self):
    note(self, self.request.retries)
    if self.request.retries < 2:
        raise self.retry(countdown=0.4 * (1 + self.request.retries))


@shared_task(bind=True)
def give_back(self):
    """Is given back once."""
    note(self, None)
    if not self.request.delivery_info["redelivered"]:
        raise Reject("once more", requeue=True)


@shared_task(bind=True)
def refuse(self):
    raise Reject("unwanted", requeue=False)


@shared_task(bind=True)
def die(self):
    """Kills the process that does it, the first time."""
    note(self, None)
    if not self.request.delivery_info["redelivered"]:
        os.kill(os.getpid(), signal.SIGKILL)
