// A connection of RabbitMQ's client to one of the nodes of FLOTILLA_AMQP (amqp://host:port,...), with one channel that confirms.
package flotilla.clients;

import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.MessageProperties;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

final class Session implements AutoCloseable {
  private static final String[] NODES = Plan.environment("FLOTILLA_AMQP", "amqp://127.0.0.1:5672").split(",");
  static final long PATIENCE_MS = 15_000;
  /** How long nothing may come where nothing is due. */
  static final long SILENCE_MS = 700;

  final Connection connection;
  final Channel channel;

  Session(int node) throws Exception {
    ConnectionFactory factory = new ConnectionFactory();
    factory.setUri(NODES[node % NODES.length]);
    connection = factory.newConnection();
    channel = connection.createChannel();
    channel.confirmSelect();
  }

  /** Declares a durable queue; gives its name. */
  String declare(String what, Map<String, Object> arguments) throws Exception {
    return channel.queueDeclare(Plan.topicName(what), true, false, false, arguments).getQueue();
  }

  /** Publishes to a queue and waits for the confirmations. */
  void publish(String queue, BasicProperties properties, Object... bodies) throws Exception {
    for (Object body : bodies) {
      channel.basicPublish("", queue, properties, Plan.bytes(String.valueOf(body)));
    }
    channel.waitForConfirmsOrDie(PATIENCE_MS);
  }

  void publish(String queue, Object... bodies) throws Exception {
    publish(queue, MessageProperties.PERSISTENT_TEXT_PLAIN, bodies);
  }

  void ack(Delivery delivery) throws Exception {
    channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
  }

  Deliveries consume(String queue, boolean noAck) throws Exception {
    Deliveries deliveries = new Deliveries();
    channel.basicConsume(queue, noAck, (tag, delivery) -> deliveries.came.add(delivery), tag -> deliveries.cancelled.add(tag));
    return deliveries;
  }

  @Override
  public void close() throws Exception {
    connection.close();
  }

  /** What a consumer got. */
  static final class Deliveries {
    final BlockingQueue<Delivery> came = new LinkedBlockingQueue<>();
    final BlockingQueue<String> cancelled = new LinkedBlockingQueue<>();

    Delivery next() throws Exception {
      Delivery delivery = came.poll(PATIENCE_MS, TimeUnit.MILLISECONDS);
      if (delivery == null) {
        throw new AssertionError("no delivery for " + PATIENCE_MS + " ms");
      }
      return delivery;
    }

    /** Nothing more comes. */
    void nothing(String why) throws Exception {
      Delivery delivery = came.poll(SILENCE_MS, TimeUnit.MILLISECONDS);
      Plan.expect(why + ": one too many", delivery == null ? null : body(delivery), null);
    }
  }

  static String body(Delivery delivery) {
    return new String(delivery.getBody(), java.nio.charset.StandardCharsets.UTF_8);
  }
}
