// What Kafka's producer and consumer are told when a request cannot be served, and that work goes on afterwards.
package flotilla.clients;

import static flotilla.clients.Plan.bytes;
import static flotilla.clients.Plan.expect;
import static flotilla.clients.Plan.expectError;

import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidTimestampException;
import org.apache.kafka.common.errors.RecordTooLargeException;

final class ErrorChecks {
  private final RoundTrip topics;

  ErrorChecks(RoundTrip topics) {
    this.topics = topics;
  }

  Map<String, Report.Check> all() {
    Map<String, Report.Check> checks = new LinkedHashMap<>();
    checks.put("error/too-large", this::tooLarge);
    checks.put("error/out-of-range", this::outOfRange);
    checks.put("error/timestamp", this::timestamp);
    checks.put("produce/auto-create", this::autoCreate);
    checks.put("produce/log-append-time", this::logAppendTime);
    checks.put("consume/read-committed", this::readCommitted);
    checks.put("consume/wake-up", this::wakeUp);
    return checks;
  }

  private static ProducerRecord<byte[], byte[]> record(String topic, String key, int valueBytes) {
    return new ProducerRecord<>(topic, bytes(key), new byte[valueBytes]);
  }

  private int tooLarge() throws Exception {
    String topic = Plan.topicName("large");
    topics.create(topic, 1, Map.of("max.message.bytes", "50000"));
    expectError(
        "60,000 bytes",
        RecordTooLargeException.class,
        () -> topics.produce("none", List.of(record(topic, "big", 60_000))));
    topics.produce("none", List.of(record(topic, "small", 10)));
    expect("only the small record is there", topics.read(topic, 1).get(0).size(), 1);
    // Compressed below the limit, many small records in one batch: the client splits what is refused.
    var many = Plan.records(topic, "none", 2000);
    topics.produce("none", many);
    expect("batches over the limit were split", topics.read(topic, 1).get(0).size(), 2001);
    topics.delete(topic);
    String roomy = Plan.topicName("large");
    topics.create(roomy, 1, Map.of());
    topics.produce("none", List.of(record(roomy, "large", (1 << 20) - 1000)));
    expect("bytes of the large record", topics.read(roomy, 1).get(0).get(0).value().length, (1 << 20) - 1000);
    topics.delete(roomy);
    return 4;
  }

  private int outOfRange() throws Exception {
    String topic = Plan.topicName("range");
    topics.create(topic, 1, Map.of());
    topics.produce("none", Plan.records(topic, "none", 10));
    var partition = new TopicPartition(topic, 0);
    try (var consumer = RoundTrip.consumer("read_uncommitted")) {
      consumer.assign(List.of(partition));
      consumer.seek(partition, 11);
      expectError(
          "fetch past the end", OffsetOutOfRangeException.class, () -> consumer.poll(Duration.ofSeconds(5)));
      consumer.seek(partition, 9);
      expect("records from offset 9", consumer.poll(Duration.ofSeconds(5)).count(), 1);
    }
    topics.delete(topic);
    return 2;
  }

  private int timestamp() throws Exception {
    String topic = Plan.topicName("time");
    topics.create(topic, 1, Map.of("message.timestamp.before.max.ms", "60000"));
    var old = new ProducerRecord<>(topic, null, System.currentTimeMillis() - 3_600_000, bytes("k"), bytes("v"));
    expectError("an hour old", InvalidTimestampException.class, () -> topics.produce("none", List.of(old)));
    topics.delete(topic);
    return 1;
  }

  /** The producer's metadata request creates an unknown topic with the default number of partitions. */
  private int autoCreate() throws Exception {
    String topic = Plan.topicName("auto");
    topics.produce("none", Plan.records(topic, "none", 100));
    topics.settled(topic, Plan.PARTITIONS);
    var rows = topics.read(topic, Plan.PARTITIONS);
    expect("records", rows.values().stream().mapToInt(List::size).sum(), 100);
    topics.delete(topic);
    return 2;
  }

  private int logAppendTime() throws Exception {
    String topic = Plan.topicName("append-time");
    topics.create(topic, 1, Map.of("message.timestamp.type", "LogAppendTime"));
    long before = System.currentTimeMillis();
    var acks = topics.produce("gzip", Plan.records(topic, "gzip", 50));
    long after = System.currentTimeMillis();
    for (var record : topics.read(topic, 1).get(0)) {
      expect("type of the time", record.timestampType().name, "LogAppendTime");
      expect("time of the broker", record.timestamp() >= before - 5 && record.timestamp() <= after + 5, true);
      expect("time in the acknowledgement", acks.get((int) record.offset()).timestamp(), record.timestamp());
    }
    topics.delete(topic);
    return 150;
  }

  private int readCommitted() throws Exception {
    String topic = Plan.topicName("committed");
    topics.create(topic, 1, Map.of());
    topics.produce("zstd", Plan.records(topic, "zstd", 200));
    try (var consumer = RoundTrip.consumer("read_committed")) {
      expect("records", RoundTrip.read(consumer, topic, 1).get(0).size(), 200);
    }
    topics.delete(topic);
    return 1;
  }

  /** A fetch that waits at the end of the log is answered soon after a record comes, not at its time limit. */
  private int wakeUp() throws Exception {
    String topic = Plan.topicName("wake-up");
    topics.create(topic, 1, Map.of());
    var partition = new TopicPartition(topic, 0);
    try (var consumer = RoundTrip.consumer("read_uncommitted", 10_000);
        var producer = RoundTrip.producer("none")) {
      producer.send(record(topic, "first", 1)).get();
      consumer.assign(List.of(partition));
      consumer.seek(partition, 1);
      var later = CompletableFuture.delayedExecutor(500, TimeUnit.MILLISECONDS);
      long start = System.nanoTime();
      CompletableFuture.runAsync(() -> producer.send(record(topic, "second", 1)), later);
      expect("records", consumer.poll(Duration.ofSeconds(10)).count(), 1);
      long waited = (System.nanoTime() - start) / 1_000_000;
      // The exact figure is for a machine that has nothing else to do; without a wake-up it would be the 10 s of the fetch.
      long most = Plan.LONG ? 2_000 : 9_000;
      expect("answered 500 to " + most + " ms after the fetch: " + waited, waited >= 450 && waited < most, true);
    }
    topics.delete(topic);
    return 2;
  }
}
