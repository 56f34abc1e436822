// Runs RabbitMQ's Java client against FLOTILLA_AMQP: what applications do with queues. Publishers and consumers are connected to different
// nodes. FLOTILLA_PEER=1 leaves out what only Flotilla has, so that the program can be checked against RabbitMQ.
package flotilla.clients;

import static flotilla.clients.Plan.expect;
import static flotilla.clients.Session.PATIENCE_MS;
import static flotilla.clients.Session.body;

import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.AlreadyClosedException;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.RpcClient;
import com.rabbitmq.client.RpcClientParams;
import com.rabbitmq.client.RpcServer;
import com.rabbitmq.client.ShutdownSignalException;
import com.rabbitmq.client.impl.ClientVersion;
import flotilla.clients.Session.Deliveries;
import java.io.IOException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import java.util.stream.LongStream;

public final class Queues {
  private Queues() {}

  public static void main(String[] arguments) {
    Report report = new Report("rabbitmq-java " + ClientVersion.VERSION);
    Map<String, Report.Check> checks = new LinkedHashMap<>();
    checks.put("work-queue", Queues::workQueue);
    checks.put("requeue", Queues::requeue);
    checks.put("prefetch", Queues::prefetch);
    checks.put("shared-prefetch", Queues::sharedPrefetch);
    checks.put("confirms", Queues::confirms);
    checks.put("mandatory", Queues::mandatory);
    checks.put("topic-exchange", Queues::topicExchange);
    checks.put("dead-letters", Queues::deadLetters);
    checks.put("priorities", Queues::priorities);
    checks.put("transaction", Queues::transaction);
    checks.put("errors", Queues::errors);
    checks.put("cancelled", Queues::cancelled);
    checks.put("direct-reply", Queues::directReply);
    if (!Plan.environment("FLOTILLA_PEER", "0").equals("1")) {
      checks.put("delayed-retry", Queues::delayedRetry);
    }
    report.check(checks);
    report.finish();
  }

  /** Three workers with prefetch share the work; each message is done once. */
  private static int workQueue() throws Exception {
    int count = 1000;
    BlockingQueue<Integer> done = new LinkedBlockingQueue<>();
    try (Session session = new Session(0); Session one = new Session(0); Session two = new Session(1); Session three = new Session(2)) {
      String queue = session.declare("work", Map.of());
      for (Session worker : List.of(one, two, three)) {
        worker.channel.basicQos(20);
        worker.channel.basicConsume(queue, false, (tag, delivery) -> {
          worker.channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
          done.add(Integer.parseInt(body(delivery)));
        }, tag -> {});
      }
      session.publish(queue, IntStream.range(0, count).boxed().toArray());
      List<Integer> numbers = new ArrayList<>();
      for (Integer number; numbers.size() < count && (number = done.poll(PATIENCE_MS, TimeUnit.MILLISECONDS)) != null; ) {
        numbers.add(number);
      }
      expect("messages done", numbers.stream().sorted().toList(), IntStream.range(0, count).boxed().toList());
      session.channel.queueDelete(queue);
    }
    return count;
  }

  /** What is given back comes again, marked, in its place; what is rejected is gone; what its channel held comes again when that closes. */
  private static int requeue() throws Exception {
    try (Session session = new Session(1); Session consumer = new Session(2)) {
      String queue = session.declare("requeue", Map.of());
      session.publish(queue, "a", "b", "c");
      consumer.channel.basicQos(1);
      Deliveries deliveries = consumer.consume(queue, false);
      for (String step : List.of("a false nack", "a true ack", "b false reject", "c false hold")) {
        Delivery delivery = deliveries.next();
        String then = step.substring(step.lastIndexOf(' ') + 1);
        expect("delivery", body(delivery) + " " + delivery.getEnvelope().isRedeliver() + " " + then, step);
        long tag = delivery.getEnvelope().getDeliveryTag();
        switch (then) {
          case "nack" -> consumer.channel.basicNack(tag, false, true);
          case "reject" -> consumer.channel.basicReject(tag, false);
          case "ack" -> consumer.channel.basicAck(tag, false);
          default -> consumer.channel.close();
        }
      }
      Deliveries again = session.consume(queue, true);
      Delivery held = again.next();
      expect("after the channel's end", body(held) + " " + held.getEnvelope().isRedeliver(), "c true");
      again.nothing("after all");
      session.channel.queueDelete(queue);
    }
    return 5;
  }

  /** The client's own request and response, which need no queue for replies. */
  private static int directReply() throws Exception {
    int count = 100;
    try (Session session = new Session(0); Session responder = new Session(1)) {
      String queue = session.declare("rpc", Map.of());
      RpcServer server = new RpcServer(responder.channel, queue) {
        @Override
        public byte[] handleCall(Delivery request, BasicProperties reply) {
          return ("re: " + body(request)).getBytes();
        }
      };
      Thread serving = new Thread(() -> {
        try {
          server.mainloop();
        } catch (IOException | ShutdownSignalException ended) {
          // It ends with its channel.
        }
      });
      serving.setDaemon(true);
      serving.start();
      RpcClientParams parameters = new RpcClientParams().channel(session.channel).exchange("").routingKey(queue).timeout((int) PATIENCE_MS);
      RpcClient client = new RpcClient(parameters);
      for (int number = 0; number < count; number++) {
        expect("reply", client.stringCall("question " + number), "re: question " + number);
      }
      client.close();
      session.channel.queueDelete(queue);
    }
    return count;
  }

  /** No more than the limit; an acknowledgement lets one more through. */
  private static int prefetch() throws Exception {
    try (Session session = new Session(0); Session consumer = new Session(1)) {
      String queue = session.declare("prefetch", Map.of());
      session.publish(queue, IntStream.range(0, 10).boxed().toArray());
      consumer.channel.basicQos(2);
      Deliveries deliveries = consumer.consume(queue, false);
      for (int more : new int[] {2, 1, 2}) {
        long last = 0;
        for (int i = 0; i < more; i++) {
          last = deliveries.next().getEnvelope().getDeliveryTag();
        }
        deliveries.nothing("a limit of 2");
        // The first time one, then all: one more comes, then two.
        consumer.channel.basicAck(last, more == 1);
      }
      session.channel.queueDelete(queue);
    }
    return 5;
  }

  /** With `global`, all consumers of a channel share one limit. */
  private static int sharedPrefetch() throws Exception {
    try (Session session = new Session(0); Session consumer = new Session(2)) {
      String queue = session.declare("shared", Map.of());
      consumer.channel.basicQos(3, true);
      Deliveries deliveries = consumer.consume(queue, false);
      consumer.channel.basicConsume(queue, false, (tag, delivery) -> deliveries.came.add(delivery), tag -> {});
      session.publish(queue, IntStream.range(0, 10).boxed().toArray());
      for (int i = 0; i < 3; i++) {
        deliveries.next();
      }
      deliveries.nothing("a limit of 3 together");
      session.channel.queueDelete(queue);
    }
    return 3;
  }

  /** Many at a time, each confirmed once. */
  private static int confirms() throws Exception {
    int count = 2000;
    try (Session session = new Session(2)) {
      String queue = session.declare("confirms", Map.of());
      ConcurrentSkipListSet<Long> open = new ConcurrentSkipListSet<>(LongStream.rangeClosed(1, count).boxed().toList());
      AtomicInteger amiss = new AtomicInteger();
      session.channel.addConfirmListener(
          (tag, multiple) -> {
            var confirmed = multiple ? open.headSet(tag, true) : open.subSet(tag, true, tag, true);
            amiss.addAndGet(confirmed.isEmpty() ? 1 : 0);
            confirmed.clear();
          },
          (tag, multiple) -> amiss.incrementAndGet());
      session.publish(queue, IntStream.range(0, count).boxed().toArray());
      Plan.eventually("not confirmed", open::size, 0);
      expect("refused, or confirmed twice", amiss.get(), 0);
      expect("purged", session.channel.queuePurge(queue).getMessageCount(), count);
      session.channel.queueDelete(queue);
    }
    return count;
  }

  /** A message without a queue comes back before it is confirmed. */
  private static int mandatory() throws Exception {
    try (Session session = new Session(0)) {
      BlockingQueue<String> returned = new LinkedBlockingQueue<>();
      session.channel.addReturnListener(back -> returned.add(back.getReplyCode() + " " + back.getRoutingKey() + " " + new String(back.getBody())));
      session.channel.basicPublish("amq.topic", "nobody", true, null, Plan.bytes("back"));
      session.channel.basicPublish("amq.topic", "nobody", false, null, Plan.bytes("gone"));
      session.channel.waitForConfirmsOrDie(PATIENCE_MS);
      expect("returned", List.copyOf(returned), List.of("312 nobody back"));
    }
    return 2;
  }

  /** Words, stars and hashes, into queues that the server names. */
  private static int topicExchange() throws Exception {
    try (Session session = new Session(1)) {
      String exchange = Plan.topicName("topic");
      session.channel.exchangeDeclare(exchange, "topic", true);
      Map<String, List<String>> patterns =
          Map.of("*.orange.*", List.of("quick.orange.rabbit", "lazy.orange.elephant"), "lazy.#", List.of("lazy.orange.elephant", "lazy.brown.fox", "lazy"));
      Map<String, Deliveries> queues = new LinkedHashMap<>();
      for (String pattern : patterns.keySet()) {
        String queue = session.channel.queueDeclare().getQueue();
        session.channel.queueBind(queue, exchange, pattern);
        queues.put(pattern, session.consume(queue, true));
      }
      for (String key : List.of("quick.orange.rabbit", "lazy.orange.elephant", "lazy.brown.fox", "quick.brown.fox", "lazy")) {
        session.channel.basicPublish(exchange, key, null, Plan.bytes(key));
      }
      for (Map.Entry<String, Deliveries> queue : queues.entrySet()) {
        for (String key : patterns.get(queue.getKey())) {
          Delivery delivery = queue.getValue().next();
          expect(queue.getKey(), delivery.getEnvelope().getRoutingKey() + " " + body(delivery), key + " " + key);
        }
        queue.getValue().nothing(queue.getKey());
      }
      session.channel.exchangeDelete(exchange);
    }
    return 5;
  }

  /** What expires or is rejected goes where the queue says, with its history; nothing goes before its time. */
  private static int deadLetters() throws Exception {
    try (Session session = new Session(2); Session consumer = new Session(0)) {
      String dead = session.declare("dead", Map.of());
      String queue =
          session.declare("ttl", Map.of("x-dead-letter-exchange", "", "x-dead-letter-routing-key", dead, "x-message-ttl", 600));
      Deliveries letters = consumer.consume(dead, true);
      BasicProperties mine = new BasicProperties.Builder().headers(Map.of("mine", "yes")).build();
      long start = System.nanoTime();
      session.publish(queue, mine, "mortal");
      expectDeath(letters.next(), "expired", queue);
      long lived = (System.nanoTime() - start) / 1_000_000;
      if (lived < 550) {
        throw new AssertionError("expired after " + lived + " of 600 ms");
      }
      Deliveries deliveries = consumer.consume(queue, false);
      session.publish(queue, mine, "unwanted");
      consumer.channel.basicReject(deliveries.next().getEnvelope().getDeliveryTag(), false);
      expectDeath(letters.next(), "rejected", queue);
      session.channel.queueDelete(queue);
      session.channel.queueDelete(dead);
    }
    return 2;
  }

  private static void expectDeath(Delivery letter, String reason, String queue) {
    Map<String, Object> headers = letter.getProperties().getHeaders();
    Map<?, ?> death = (Map<?, ?>) ((List<?>) headers.get("x-death")).get(0);
    String told = death.get("reason") + " " + death.get("queue") + " " + death.get("count") + " " + headers.get("mine");
    expect("death", told, reason + " " + queue + " 1 yes");
  }

  /** The highest first; of one priority the oldest. */
  private static int priorities() throws Exception {
    try (Session session = new Session(0); Session consumer = new Session(1)) {
      String queue = session.declare("priority", Map.of("x-max-priority", 10));
      for (int priority : new int[] {1, 9, 0, 5, 9}) {
        session.publish(queue, new BasicProperties.Builder().priority(priority).build(), priority);
      }
      consumer.channel.basicQos(1);
      Deliveries deliveries = consumer.consume(queue, false);
      List<String> got = new ArrayList<>();
      for (int i = 0; i < 5; i++) {
        Delivery delivery = deliveries.next();
        got.add(body(delivery));
        consumer.ack(delivery);
      }
      expect("order", got, List.of("9", "9", "5", "1", "0"));
      session.channel.queueDelete(queue);
    }
    return 5;
  }

  /** Nothing is there before the commit; what is rolled back never is. */
  private static int transaction() throws Exception {
    try (Session session = new Session(1)) {
      String queue = session.declare("tx", Map.of());
      Channel channel = session.connection.createChannel();
      channel.txSelect();
      channel.basicPublish("", queue, null, Plan.bytes("no"));
      channel.txRollback();
      channel.basicPublish("", queue, null, Plan.bytes("yes"));
      expect("before the commit", channel.messageCount(queue), 0L);
      channel.txCommit();
      expect("after the commit", channel.messageCount(queue), 1L);
      session.channel.queueDelete(queue);
    }
    return 2;
  }

  private interface Refused {
    void run(Channel channel) throws Exception;
  }

  /** A channel that is refused something closes with its code, and the connection lives. */
  private static int errors() throws Exception {
    Map<Refused, Integer> refusals = new LinkedHashMap<>();
    refusals.put(channel -> channel.queueDeclarePassive("no-such-queue"), 404);
    refusals.put(channel -> channel.queueBind("no-such-queue", "amq.topic", ""), 404);
    refusals.put(channel -> channel.exchangeDeclare("amq.direct", "fanout", true), 406);
    refusals.put(channel -> channel.exchangeDelete("amq.direct"), 403);
    refusals.put(channel -> { channel.basicAck(5, false); channel.basicQos(1); }, 406);
    try (Session session = new Session(0)) {
      for (Map.Entry<Refused, Integer> refusal : refusals.entrySet()) {
        Channel channel = session.connection.createChannel();
        BlockingQueue<ShutdownSignalException> closed = new LinkedBlockingQueue<>();
        channel.addShutdownListener(closed::add);
        try {
          refusal.getKey().run(channel);
        } catch (java.io.IOException | AlreadyClosedException error) {
          // The listener hears the same with its code.
        }
        ShutdownSignalException why = closed.poll(PATIENCE_MS, TimeUnit.MILLISECONDS);
        if (why == null || !(why.getReason() instanceof com.rabbitmq.client.AMQP.Channel.Close close)) {
          throw new AssertionError("not closed with " + refusal.getValue() + ": " + why);
        }
        expect("closed with", close.getReplyCode(), refusal.getValue());
      }
    }
    return refusals.size();
  }

  /** Who consumes from a queue that is deleted is told. */
  private static int cancelled() throws Exception {
    try (Session session = new Session(1); Session consumer = new Session(2)) {
      String queue = session.declare("cancel", Map.of());
      Deliveries deliveries = consumer.consume(queue, false);
      session.channel.queueDelete(queue);
      if (deliveries.cancelled.poll(PATIENCE_MS, TimeUnit.MILLISECONDS) == null) {
        throw new AssertionError("the consumer is not told that its queue is deleted");
      }
    }
    return 1;
  }

  /** What fails waits, longer each time, and says how often it failed. */
  private static int delayedRetry() throws Exception {
    try (Session session = new Session(2); Session consumer = new Session(0)) {
      String queue = session.declare("retry", Map.of("x-delayed-retry-min", 200, "x-delayed-retry-max", 5000));
      Deliveries deliveries = consumer.consume(queue, false);
      session.publish(queue, "again");
      for (int failures = 0; failures < 3; failures++) {
        long start = System.nanoTime();
        Delivery delivery = deliveries.next();
        long waited = (System.nanoTime() - start) / 1_000_000;
        if (waited < 200 * failures - 20) {
          throw new AssertionError("came after " + waited + " instead of " + 200 * failures + " ms");
        }
        Map<String, Object> headers = delivery.getProperties().getHeaders();
        Object count = headers == null ? null : headers.get("x-delivery-count");
        expect("failures", count == null ? 0L : count, (long) failures);
        if (failures == 2) {
          consumer.ack(delivery);
        } else {
          consumer.channel.basicNack(delivery.getEnvelope().getDeliveryTag(), false, true);
        }
      }
      session.channel.queueDelete(queue);
    }
    return 3;
  }
}
