"""Runs pika against FLOTILLA_AMQP (amqp://host:port,...): what applications do with queues. Publishers, consumers and who looks are connected to
different nodes. FLOTILLA_PEER=1 leaves out what only Flotilla has, so that the program can be checked against RabbitMQ."""

import logging
import os
import secrets
import time

import pika
from pika.exceptions import ChannelClosedByBroker, NackError, UnroutableError

from plan import Mismatch, Report, eventually, expect

NODES = os.environ.get("FLOTILLA_AMQP", "amqp://127.0.0.1:5672").split(",")
BOOTSTRAP = os.environ.get("FLOTILLA_BOOTSTRAP")
IS_PEER = os.environ.get("FLOTILLA_PEER") == "1"
PERSISTENT = pika.BasicProperties(delivery_mode=2)


def connect(node=0):
    return pika.BlockingConnection(pika.URLParameters(NODES[node % len(NODES)] + "/%2F"))


def unique(what):
    return f"pika-{what}-{secrets.token_hex(4)}"


class Consumer:
    """A consumer with a connection of its own, which remembers what it got."""

    def __init__(self, queue, node=0, prefetch=0, on_message=None, **options):
        self.connection = connect(node)
        self.channel = self.connection.channel()
        self.got, self.cancelled = [], []
        if prefetch:
            self.channel.basic_qos(prefetch_count=prefetch)
        self.channel.add_on_cancel_callback(self.cancelled.append)
        self.on_message = on_message
        self.tag = self.channel.basic_consume(queue, self._take, **options)

    def _take(self, channel, method, properties, body):
        self.got.append((method, properties, body))
        if self.on_message:
            self.on_message(channel, method)

    def wait(self, count, seconds=10):
        """Works until so many messages came, or the time is over; gives what came."""
        deadline = time.monotonic() + seconds
        while len(self.got) < count and time.monotonic() < deadline:
            self.connection.process_data_events(time_limit=0.05)
        return self.got

    def close(self):
        self.connection.close()


def get(channel, queue, seconds=10):
    """basic.get until there is a message."""
    deadline = time.monotonic() + seconds
    while True:
        method, properties, body = channel.basic_get(queue)
        if method is not None:
            return method, properties, body
        if time.monotonic() > deadline:
            raise Mismatch(f"nothing in {queue} for {seconds} s")
        time.sleep(0.02)


def refused(code, run):
    """`run(channel)` closes its channel with this code."""
    connection = connect()
    try:
        run(connection.channel())
    except ChannelClosedByBroker as error:
        expect("reply code", error.reply_code, code)
        return
    finally:
        if connection.is_open:
            connection.close()
    raise Mismatch(f"not refused with {code}")


def work_queue():
    """Three workers with prefetch share the work; each message is done once, none is left."""
    count, queue = 300, unique("work")
    connection = connect()
    channel = connection.channel()
    channel.queue_declare(queue, durable=True)
    done = lambda channel, method: channel.basic_ack(method.delivery_tag)
    workers = [Consumer(queue, node, prefetch=10, on_message=done) for node in range(3)]
    for number in range(count):
        channel.basic_publish("", queue, str(number).encode(), PERSISTENT)
    deadline = time.monotonic() + 30
    while sum(len(worker.got) for worker in workers) < count and time.monotonic() < deadline:
        for worker in workers:
            worker.connection.process_data_events(time_limit=0)
    bodies = sorted(int(body) for worker in workers for _, _, body in worker.got)
    expect("messages done", bodies, list(range(count)))
    for worker in workers:
        if not worker.got:
            raise Mismatch("a worker got nothing")
        worker.close()
    left = lambda: channel.queue_declare(queue, passive=True).method.message_count
    eventually("messages left", left, 0)
    channel.queue_delete(queue)
    connection.close()
    return count


def requeue():
    """A message that is given back comes again in its place, and says so."""
    queue, connection = unique("requeue"), connect(1)
    channel = connection.channel()
    channel.queue_declare(queue, durable=True)
    channel.confirm_delivery()
    for body in (b"a", b"b", b"c"):
        channel.basic_publish("", queue, body, PERSISTENT)
    method, _, body = get(channel, queue)
    expect("first", (body, method.redelivered), (b"a", False))
    channel.basic_nack(method.delivery_tag, requeue=True)
    method, _, body = get(channel, queue)
    expect("again", (body, method.redelivered), (b"a", True))
    channel.basic_reject(method.delivery_tag, requeue=False)
    consumer = Consumer(queue, 2)
    expect("the others", [body for _, _, body in consumer.wait(2)], [b"b", b"c"])
    consumer.close()
    consumer = Consumer(queue, 0, on_message=lambda channel, method: channel.basic_ack(method.delivery_tag))
    expect("after the consumer's end", [(m.redelivered, body) for m, _, body in consumer.wait(2)], [(True, b"b"), (True, b"c")])
    consumer.close()
    channel.queue_delete(queue)
    connection.close()
    return 5


def prefetch():
    """No more than the limit is with a consumer; each acknowledgement lets one more through."""
    queue, connection = unique("prefetch"), connect()
    channel = connection.channel()
    channel.queue_declare(queue, durable=True)
    channel.confirm_delivery()
    for number in range(10):
        channel.basic_publish("", queue, str(number).encode(), PERSISTENT)
    consumer = Consumer(queue, 1, prefetch=3)
    expect("with a limit of 3", len(consumer.wait(4, 1)), 3)
    consumer.channel.basic_ack(consumer.got[0][0].delivery_tag)
    expect("after an acknowledgement", len(consumer.wait(5, 1)), 4)
    consumer.channel.basic_ack(0, multiple=True)
    expect("after all", len(consumer.wait(8, 1)), 7)
    consumer.close()
    channel.queue_delete(queue)
    connection.close()
    return 10


def confirms():
    """Each message is confirmed; one that is mandatory and has no queue comes back."""
    count, queue, connection = 200, unique("confirms"), connect(2)
    channel = connection.channel()
    channel.queue_declare(queue, durable=True)
    channel.confirm_delivery()
    for number in range(count):
        channel.basic_publish("", queue, bytes(number), PERSISTENT, mandatory=True)
    expect("messages", channel.queue_declare(queue, passive=True).method.message_count, count)
    channel.basic_publish("amq.topic", "nobody.wants.it", b"")
    try:
        channel.basic_publish("", "no-such-queue", b"back", mandatory=True)
    except UnroutableError as error:
        returned = error.messages[0]
        expect("returned", (returned.method.reply_code, returned.body), (312, b"back"))
    else:
        raise Mismatch("a mandatory message without a queue did not come back")
    expect("purged", channel.queue_purge(queue).method.message_count, count)
    channel.queue_delete(queue)
    connection.close()
    return count + 2


def topic_exchange():
    """Words, stars and hashes; another exchange behind the first; each queue once."""
    exchange, behind, connection = unique("topic"), unique("behind"), connect()
    channel = connection.channel()
    channel.exchange_declare(exchange, "topic", durable=True)
    channel.exchange_declare(behind, "fanout", durable=True)
    channel.exchange_bind(behind, exchange, "#.error")
    wanted = {"eu.*": {"eu.a", "eu.b"}, "eu.#": {"eu.a", "eu.b", "eu.a.error"}, "behind": {"eu.a.error", "us.error"}}
    for name, keys in wanted.items():
        queue = channel.queue_declare("", exclusive=True).method.queue
        if name == "behind":
            channel.queue_bind(queue, behind)
        else:
            channel.queue_bind(queue, exchange, name)
            channel.queue_bind(queue, exchange, "eu.a")
        wanted[name] = (queue, keys)
    channel.confirm_delivery()
    for key in ("eu.a", "eu.b", "eu.a.error", "us.error", "us.a"):
        channel.basic_publish(exchange, key, key.encode())
    for name, (queue, keys) in wanted.items():
        got = set()
        for _ in keys:
            method, _, body = get(channel, queue)
            expect("the routing key", method.routing_key.encode(), body)
            got.add(body.decode())
        expect(name, got, keys)
        expect("no more", channel.basic_get(queue)[0], None)
    channel.exchange_delete(exchange)
    channel.exchange_delete(behind)
    connection.close()
    return 7


def dead_letters():
    """What expires or is rejected goes where the queue says, and says where it was; nothing goes before its time."""
    queue, dead, connection = unique("ttl"), unique("dead"), connect(1)
    channel = connection.channel()
    channel.queue_declare(dead, durable=True)
    arguments = {"x-message-ttl": 800, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    channel.queue_declare(queue, durable=True, arguments=arguments)
    channel.confirm_delivery()

    def death(wanted, reason):
        method, properties, body = get(channel, dead)
        channel.basic_ack(method.delivery_tag)
        newest = properties.headers["x-death"][0]
        told = (body, newest["reason"], newest["queue"], newest["count"], properties.headers["mine"])
        expect("the death", told, (wanted, reason, queue, 1, 1))

    start = time.monotonic()
    mine = pika.BasicProperties(headers={"mine": 1})
    channel.basic_publish("", queue, b"slow", mine)
    death(b"slow", "expired")
    if time.monotonic() - start < 0.75:
        raise Mismatch(f"expired after {time.monotonic() - start:.3f} s of 0.8 s")
    channel.basic_publish("", queue, b"unwanted", mine)
    channel.basic_reject(get(channel, queue)[0].delivery_tag, requeue=False)
    death(b"unwanted", "rejected")
    own = unique("own")
    channel.queue_declare(own, durable=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    channel.basic_publish("", own, b"own time", pika.BasicProperties(expiration="300"))
    _, properties, body = get(channel, dead)
    newest = properties.headers["x-death"][0]
    expect("of its own time", (body, newest["reason"], newest.get("original-expiration")), (b"own time", "expired", "300"))
    for name in (queue, dead, own):
        channel.queue_delete(name)
    connection.close()
    return 3


def priorities():
    """The highest first; of one priority the oldest."""
    queue, connection = unique("priority"), connect(2)
    channel = connection.channel()
    channel.queue_declare(queue, durable=True, arguments={"x-max-priority": 10})
    channel.confirm_delivery()
    sent = [(number % 4, number) for number in range(20)]
    for priority, number in sent:
        channel.basic_publish("", queue, str(number).encode(), pika.BasicProperties(priority=priority))
    consumer = Consumer(queue, 0, prefetch=1, on_message=lambda channel, method: channel.basic_ack(method.delivery_tag))
    got = [(properties.priority, int(body)) for _, properties, body in consumer.wait(20)]
    expect("order", got, sorted(sent, key=lambda one: (-one[0], one[1])))
    consumer.close()
    channel.queue_delete(queue)
    connection.close()
    return 20


def delayed_retry():
    """What fails waits, longer each time, and dies of the limit; a message may ask to wait before it is in a queue at all."""
    queue, dead, connection = unique("retry"), unique("retry-dead"), connect()
    channel = connection.channel()
    channel.queue_declare(dead, durable=True)
    arguments = {
        "x-delayed-retry-min": 200,
        "x-delayed-retry-max": 10_000,
        "x-delivery-limit": 2,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": dead,
    }
    channel.queue_declare(queue, durable=True, arguments=arguments)
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"again")
    for failures, least in ((0, 0), (1, 0.2), (2, 0.4)):
        start = time.monotonic()
        method, properties, _ = get(channel, queue)
        waited = time.monotonic() - start
        if waited < least - 0.02:
            raise Mismatch(f"came after {waited:.3f} s instead of {least} s")
        expect("deliveries before", (properties.headers or {}).get("x-delivery-count", 0), failures)
        channel.basic_nack(method.delivery_tag, requeue=True)
    _, properties, _ = get(channel, dead)
    expect("died of", properties.headers["x-death"][0]["reason"], "delivery_limit")
    exchange = unique("delayed")
    channel.exchange_declare(exchange, "x-delayed-message", durable=True, arguments={"x-delayed-type": "direct"})
    channel.queue_bind(dead, exchange, "later")
    start = time.monotonic()
    channel.basic_publish(exchange, "later", b"late", pika.BasicProperties(headers={"x-delay": 400}))
    _, _, body = get(channel, dead)
    expect("the delayed message", (body, time.monotonic() - start >= 0.38), (b"late", True))
    channel.exchange_delete(exchange)
    for name in (queue, dead):
        channel.queue_delete(name)
    connection.close()
    return 4


def errors():
    """What is refused, and with which code."""
    queue, connection = unique("errors"), connect()
    channel = connection.channel()
    channel.queue_declare(queue, durable=True, arguments={"x-max-length": 5})
    refused(404, lambda channel: channel.queue_declare(unique("nothing"), passive=True))
    refused(404, lambda channel: channel.basic_consume(unique("nothing"), lambda *_: None))
    refused(404, lambda channel: channel.queue_bind(queue, unique("nothing"), "key"))
    refused(406, lambda channel: channel.queue_declare(queue, durable=True, arguments={"x-max-length": 6}))
    refused(406, lambda channel: channel.queue_declare(unique("bad"), durable=True, arguments={"x-message-ttl": -1}))
    refused(403, lambda channel: channel.queue_declare("amq.reserved"))
    refused(403, lambda channel: channel.exchange_delete("amq.direct"))

    def unknown_tag(channel):
        channel.basic_ack(77)
        channel.queue_declare(queue, passive=True)

    def missing_exchange(channel):
        channel.confirm_delivery()
        channel.basic_publish(unique("nothing"), "key", b"")

    refused(406, unknown_tag)
    refused(404, missing_exchange)
    channel.queue_delete(queue)
    channel.queue_delete(queue)
    connection.close()
    return 9


def temporary_queues():
    """An exclusive queue is its connection's alone and goes with it; an auto-delete queue goes with its last consumer."""
    connection, other = connect(), connect(1)
    channel = connection.channel()
    exclusive = channel.queue_declare("", exclusive=True).method.queue
    if not exclusive.startswith("amq.gen-"):
        raise Mismatch(f"a queue of the server's is named {exclusive}")
    refused(405, lambda channel: channel.queue_declare(exclusive, passive=True))
    channel.basic_publish("", exclusive, b"mine")
    get(channel, exclusive)
    connection.close()
    refused(404, lambda channel: channel.queue_declare(exclusive, passive=True))
    auto = unique("auto")
    other.channel().queue_declare(auto, auto_delete=True)
    consumer = Consumer(auto, 2)
    consumer.channel.basic_cancel(consumer.tag)

    def is_gone():
        try:
            refused(404, lambda channel: channel.queue_declare(auto, passive=True))
        except Mismatch:
            return False
        return True

    eventually("the queue is gone", is_gone, True)
    consumer.close()
    other.close()
    return 4


def cancelled_consumer():
    """Who consumes from a queue that is deleted is told; an exclusive consumer is alone."""
    queue, connection = unique("cancel"), connect()
    channel = connection.channel()
    channel.queue_declare(queue, durable=True)
    consumer = Consumer(queue, 1, exclusive=True)
    refused(403, lambda channel: channel.basic_consume(queue, lambda *_: None))
    channel.queue_delete(queue)
    deadline = time.monotonic() + 10
    while not consumer.cancelled and time.monotonic() < deadline:
        consumer.connection.process_data_events(time_limit=0.05)
    expect("cancelled", [frame.method.consumer_tag for frame in consumer.cancelled], [consumer.tag])
    consumer.close()
    connection.close()
    return 2


def transactions():
    """Nothing is there before the commit; what is rolled back never is."""
    queue, connection = unique("tx"), connect(1)
    channel = connection.channel()
    channel.queue_declare(queue, durable=True)
    channel.tx_select()
    channel.basic_publish("", queue, b"no", PERSISTENT)
    channel.tx_rollback()
    channel.basic_publish("", queue, b"yes", PERSISTENT)
    expect("before the commit", channel.queue_declare(queue, passive=True).method.message_count, 0)
    channel.tx_commit()
    method, _, body = get(channel, queue)
    expect("committed", body, b"yes")
    channel.basic_ack(method.delivery_tag)
    channel.tx_rollback()
    channel.basic_ack(method.delivery_tag)
    channel.tx_commit()
    expect("left", channel.queue_declare(queue, passive=True).method.message_count, 0)
    channel.queue_delete(queue)
    connection.close()
    return 3


def large_messages():
    """Bodies of many frames come back as they were."""
    queue, connection = unique("large"), connect(2)
    channel = connection.channel()
    channel.queue_declare(queue, durable=True)
    channel.confirm_delivery()
    sent = [secrets.token_bytes(size) for size in (0, 1, 131_064, 131_065, 900_000)]
    for body in sent:
        channel.basic_publish("", queue, body, PERSISTENT)
    consumer = Consumer(queue, 0, auto_ack=True)
    expect("bodies", [body == wanted for (_, _, body), wanted in zip(consumer.wait(5), sent)], [True] * 5)
    consumer.close()
    channel.queue_delete(queue)
    connection.close()
    return len(sent)


def direct_reply():
    """Requests on one node, their replies from another, without a queue for them; what comes too late goes back to whoever replied."""
    requester, late = connect(0), connect(1)
    channel, queue, replies = requester.channel(), unique("rpc"), []
    channel.queue_declare(queue)
    answer = lambda channel, method, properties, body: replies.append((properties.correlation_id, body))
    channel.basic_consume("amq.rabbitmq.reply-to", answer, auto_ack=True)

    def respond(responder, method):
        _, properties, body = server.got[-1]
        responder.basic_publish("", properties.reply_to, body.upper(), pika.BasicProperties(correlation_id=properties.correlation_id))

    server = Consumer(queue, node=2, on_message=respond, auto_ack=True)
    for number in range(100):
        asks = pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id=str(number))
        channel.basic_publish("", queue, f"question {number}".encode(), asks)
    server.wait(100)
    deadline = time.monotonic() + 10
    while len(replies) < 100 and time.monotonic() < deadline:
        server.connection.process_data_events(time_limit=0.05)
        requester.process_data_events(time_limit=0.05)
    expect("replies", sorted(replies, key=lambda reply: int(reply[0])), [(str(n), f"QUESTION {n}".encode()) for n in range(100)])
    address = server.got[-1][1].reply_to
    channel.queue_delete(queue)
    requester.close()
    to_nobody = late.channel()
    to_nobody.confirm_delivery()
    try:
        to_nobody.basic_publish("", address, b"too late", PERSISTENT, mandatory=True)
        raise Mismatch("a reply to nobody was not returned")
    except UnroutableError:
        pass
    refused(404, lambda channel: channel.queue_declare(address, passive=True))
    refused(406, lambda channel: channel.basic_consume("amq.rabbitmq.reply-to", answer, auto_ack=False))
    server.close()
    late.close()
    return 201


def published_twice():
    """A message that is published again through another node is taken once, and a full queue says so of what it has."""
    queue, dead = unique("once"), unique("refused")
    connections = [connect(node) for node in range(3)]
    channels = [connection.channel() for connection in connections]
    channels[0].queue_declare(dead, durable=True)
    rules = {"x-max-length": 2, "x-overflow": "reject-publish-dlx", "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    channels[0].queue_declare(queue, durable=True, arguments=rules | {"x-dedup-window": 60_000})
    for channel in channels:
        channel.confirm_delivery()

    def publish(node, number):
        properties = pika.BasicProperties(headers={"x-dedup-key": f"order-{number}"})
        channels[node].basic_publish("", queue, str(number).encode(), properties)

    for number in (1, 2):
        for node in range(3):
            publish(node, number)
    try:
        publish(1, 3)
        raise Mismatch("a full queue took a message")
    except NackError:
        pass
    got = [get(channels[2], queue)[2] for _ in range(2)]
    expect("the messages", got, [b"1", b"2"])
    expect("nothing more", channels[2].basic_get(queue)[0], None)
    _, properties, body = get(channels[0], dead)
    expect("the refused", (body, properties.headers["x-first-death-reason"]), (b"3", "maxlen"))
    for name in (queue, dead):
        channels[0].queue_delete(name)
    for connection in connections:
        connection.close()
    return 3


def across_protocols():
    """A queue is a topic: a Kafka client reads what was published, and what it produces is delivered."""
    from confluent_kafka import Consumer as KafkaConsumer
    from confluent_kafka import Producer, TopicPartition

    queue, connection = unique("both"), connect()
    channel = connection.channel()
    channel.queue_declare(queue, durable=True)
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"from amqp", pika.BasicProperties(headers={"color": "red", "n": 7}))
    reader = KafkaConsumer({"bootstrap.servers": BOOTSTRAP, "group.id": "unused", "enable.auto.commit": False})
    reader.assign([TopicPartition(queue, 0, 0)])
    record = reader.poll(20)
    if record is None or record.error():
        raise Mismatch(f"read by Kafka: {record and record.error()}")
    headers = dict(record.headers())
    expect("read by Kafka", (record.value(), headers["color"], headers["n"]), (b"from amqp", b"red", b"7"))
    expect("routing key", headers["amqp.routing-key"], queue.encode())
    reader.close()
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "acks": "all"})
    producer.produce(queue, key=b"k", value=b"from kafka", headers=[("trace", b"1")])
    expect("left to send", producer.flush(20), 0)
    expect("first", get(channel, queue)[2], b"from amqp")
    _, properties, body = get(channel, queue)
    expect("read by AMQP", (body, properties.headers), (b"from kafka", {"trace": "1", "kafka.key": "k"}))
    channel.queue_delete(queue)
    connection.close()
    return 2


CHECKS = {
    "work-queue": work_queue,
    "requeue": requeue,
    "prefetch": prefetch,
    "confirms": confirms,
    "topic-exchange": topic_exchange,
    "dead-letters": dead_letters,
    "priorities": priorities,
    "errors": errors,
    "temporary-queues": temporary_queues,
    "cancelled-consumer": cancelled_consumer,
    "transactions": transactions,
    "large-messages": large_messages,
    "direct-reply": direct_reply,
}
OURS = {"delayed-retry": delayed_retry, "published-twice": published_twice, "across-protocols": across_protocols}


def main():
    logging.disable(logging.CRITICAL)
    report = Report("pika", pika.__version__)
    for label, check in (CHECKS | ({} if IS_PEER else OURS)).items():
        report.check(label, check)
    report.finish()


if __name__ == "__main__":
    main()
