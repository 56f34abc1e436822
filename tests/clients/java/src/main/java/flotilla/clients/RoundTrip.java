// Creates topics, produces with acks=all and reads by assignment; checks what is read against what was sent.
// Owns one consumer for all checks; the producers live for one call each.
package flotilla.clients;

import static flotilla.clients.Plan.expect;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

final class RoundTrip implements AutoCloseable {
  private final Admin admin;
  private final KafkaConsumer<byte[], byte[]> consumer;

  RoundTrip(Admin admin) {
    this.admin = admin;
    this.consumer = consumer("read_uncommitted");
  }

  @Override
  public void close() {
    consumer.close();
  }

  static KafkaConsumer<byte[], byte[]> consumer(String isolation) {
    return consumer(isolation, 100);
  }

  static KafkaConsumer<byte[], byte[]> consumer(String isolation, int maxWaitMs) {
    Map<String, Object> config = new HashMap<>();
    config.put("bootstrap.servers", Plan.BOOTSTRAP);
    config.put("enable.auto.commit", false);
    config.put("auto.offset.reset", "none");
    config.put("isolation.level", isolation);
    config.put("check.crcs", true);
    config.put("metadata.max.age.ms", 5_000);
    config.put("fetch.max.wait.ms", maxWaitMs);
    return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
  }

  static KafkaProducer<byte[], byte[]> producer(String codec) {
    Map<String, Object> config = new HashMap<>();
    config.put("bootstrap.servers", Plan.BOOTSTRAP);
    config.put("acks", "all");
    config.put("enable.idempotence", true);
    config.put("compression.type", codec);
    config.put("max.request.size", 4 << 20);
    config.put("delivery.timeout.ms", 60_000);
    config.put("max.block.ms", 20_000);
    return new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer());
  }

  void create(String topic, int partitions, Map<String, String> config) throws Exception {
    admin.createTopics(List.of(new NewTopic(topic, partitions, Plan.REPLICATION).configs(config))).all().get();
    settled(topic, partitions);
  }

  /** Waits until every partition has a leader. */
  void settled(String topic, int partitions) throws Exception {
    Plan.eventually(
        "partitions with a leader",
        () ->
            admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().stream()
                .filter(partition -> partition.leader() != null && !partition.leader().isEmpty())
                .count(),
        (long) partitions);
  }

  void delete(String topic) throws Exception {
    admin.deleteTopics(List.of(topic)).all().get();
  }

  static List<TopicPartition> partitions(String topic, int count) {
    return IntStream.range(0, count).mapToObj(p -> new TopicPartition(topic, p)).toList();
  }

  List<RecordMetadata> produce(String codec, List<ProducerRecord<byte[], byte[]>> records) throws Exception {
    try (KafkaProducer<byte[], byte[]> producer = producer(codec)) {
      List<Future<RecordMetadata>> futures = new ArrayList<>(records.size());
      for (var record : records) {
        futures.add(producer.send(record));
      }
      producer.flush();
      List<RecordMetadata> placed = new ArrayList<>(records.size());
      for (var future : futures) {
        placed.add(future.get());
      }
      return placed;
    }
  }

  /** Reads partitions 0 to `count` - 1 from the earliest offset to the end. */
  Map<Integer, List<ConsumerRecord<byte[], byte[]>>> read(String topic, int count) {
    return read(consumer, topic, count);
  }

  static Map<Integer, List<ConsumerRecord<byte[], byte[]>>> read(
      KafkaConsumer<byte[], byte[]> consumer, String topic, int count) {
    List<TopicPartition> wanted = partitions(topic, count);
    Map<TopicPartition, Long> starts = consumer.beginningOffsets(wanted);
    Map<TopicPartition, Long> ends = consumer.endOffsets(wanted);
    consumer.assign(wanted);
    Map<Integer, List<ConsumerRecord<byte[], byte[]>>> rows = new TreeMap<>();
    long left = 0;
    for (TopicPartition partition : wanted) {
      rows.put(partition.partition(), new ArrayList<>());
      consumer.seek(partition, starts.get(partition));
      left += ends.get(partition) - starts.get(partition);
    }
    while (left > 0) {
      var polled = consumer.poll(Duration.ofSeconds(10));
      expect("records within 10 s, " + left + " to come", polled.isEmpty(), false);
      for (var record : polled) {
        rows.get(record.partition()).add(record);
        left--;
      }
    }
    consumer.unsubscribe();
    return rows;
  }

  int run(String codec, int count) throws Exception {
    String topic = Plan.topicName(codec);
    create(topic, Plan.PARTITIONS, Map.of());
    var sent = Plan.records(topic, codec, count);
    var acks = produce(codec, sent);
    var rows = read(topic, Plan.PARTITIONS);
    verify(sent, acks, rows);
    byTime(topic, rows);
    delete(topic);
    return count;
  }

  private static void verify(
      List<ProducerRecord<byte[], byte[]>> sent,
      List<RecordMetadata> acks,
      Map<Integer, List<ConsumerRecord<byte[], byte[]>>> rows) {
    expect("records read", rows.values().stream().mapToInt(List::size).sum(), sent.size());
    Map<String, Integer> home = new HashMap<>();
    rows.forEach(
        (partition, records) -> {
          int last = -1;
          for (int i = 0; i < records.size(); i++) {
            var record = records.get(i);
            String place = "partition " + partition + " offset " + record.offset();
            expect(place + ": dense offsets", record.offset(), (long) i);
            Header header = record.headers().lastHeader("number");
            expect(place + ": has the header of a record sent", header != null, true);
            int number = Integer.parseInt(new String(header.value()));
            same(place + ": record " + number, record, sent.get(number));
            expect(place + ": produce order, " + number + " after " + last, number > last, true);
            last = number;
            String key = new String(record.key());
            Integer other = home.putIfAbsent(key, partition);
            expect(place + ": partition of " + key, other == null ? partition : other, partition);
            expect(place + ": acknowledged offset", acks.get(number).offset(), record.offset());
            expect(place + ": acknowledged partition", acks.get(number).partition(), partition);
          }
        });
  }

  /** Fails unless a record read equals the one sent. */
  static void same(String place, ConsumerRecord<byte[], byte[]> got, ProducerRecord<byte[], byte[]> want) {
    expect(place + ": key", Arrays.equals(got.key(), want.key()), true);
    expect(place + ": value", Arrays.equals(got.value(), want.value()), true);
    expect(place + ": time", got.timestamp(), want.timestamp());
    expect(place + ": headers", got.headers(), want.headers());
  }

  /** ListOffsets through the consumer: earliest, by the time of a record, after the last. */
  private void byTime(String topic, Map<Integer, List<ConsumerRecord<byte[], byte[]>>> rows) {
    for (var entry : rows.entrySet()) {
      var partition = new TopicPartition(topic, entry.getKey());
      var records = entry.getValue();
      for (var record : List.of(records.get(0), records.get(records.size() / 2), records.get(records.size() - 1))) {
        var found = consumer.offsetsForTimes(Map.of(partition, record.timestamp())).get(partition);
        String what = "offset at the time of " + partition + " offset " + record.offset();
        expect(what, found == null ? null : found.offset(), record.offset());
        expect(what + ": its time", found.timestamp(), record.timestamp());
      }
      var after = consumer.offsetsForTimes(Map.of(partition, System.currentTimeMillis())).get(partition);
      expect("offset after the last record of " + partition, after, null);
    }
  }
}
