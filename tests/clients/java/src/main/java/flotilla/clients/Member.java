// A member of a group for python/group.py: `Member GROUP TOPIC classic|consumer`. Prints what it got and what it has committed,
// and leaves when its input ends.
package flotilla.clients;

import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public final class Member {
  private Member() {}

  public static void main(String[] arguments) {
    Map<String, Object> config = new HashMap<>();
    config.put("bootstrap.servers", Plan.BOOTSTRAP);
    config.put("group.id", arguments[0]);
    config.put("group.protocol", arguments[2]);
    config.put("auto.offset.reset", "earliest");
    config.put("enable.auto.commit", false);
    if (arguments[2].equals("classic")) {
      config.put("session.timeout.ms", 20000);
      config.put("heartbeat.interval.ms", 1000);
      config.put("partition.assignment.strategy", CooperativeStickyAssignor.class.getName());
    }
    AtomicBoolean ended = new AtomicBoolean();
    Thread input = new Thread(() -> awaitEnd(ended));
    input.setDaemon(true);
    input.start();
    try (var consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
      consumer.subscribe(List.of(arguments[1]));
      while (!ended.get()) {
        step(consumer);
      }
    }
    System.out.flush();
    Runtime.getRuntime().halt(0);
  }

  private static void step(KafkaConsumer<byte[], byte[]> consumer) {
    ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(200));
    StringBuilder text = new StringBuilder();
    for (ConsumerRecord<byte[], byte[]> record : records) {
      text.append("got ").append(record.partition()).append(' ').append(record.offset()).append('\n');
    }
    System.out.print(text);
    if (records.isEmpty()) {
      return;
    }
    text.setLength(0);
    try {
      consumer.commitSync();
      for (TopicPartition partition : records.partitions()) {
        List<ConsumerRecord<byte[], byte[]>> of = records.records(partition);
        long end = of.get(of.size() - 1).offset() + 1;
        text.append("committed ").append(partition.partition()).append(' ').append(end).append('\n');
      }
    } catch (KafkaException error) { // a rebalance came between: others read it again
      text.append("# ").append(error.toString().replace('\n', ' ')).append('\n');
    }
    System.out.print(text);
    System.out.flush();
  }

  private static void awaitEnd(AtomicBoolean ended) {
    try {
      while (System.in.read() >= 0) {}
    } catch (java.io.IOException closed) {
      // The end as well.
    }
    ended.set(true);
  }
}
