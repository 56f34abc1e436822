// The records the Java client writes and the words of its checks; knows nothing of the cluster.
package flotilla.clients;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ThreadLocalRandom;
import org.apache.kafka.clients.producer.ProducerRecord;

final class Plan {
  static final String BOOTSTRAP = environment("FLOTILLA_BOOTSTRAP", "127.0.0.1:9092");
  static final short REPLICATION = Short.parseShort(environment("FLOTILLA_RF", "3"));
  static final int RECORDS = Integer.parseInt(environment("FLOTILLA_RECORDS", "10000"));
  static final boolean LONG = environment("FLOTILLA_LONG", "0").equals("1");
  static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
  static final int PARTITIONS = 4;
  private static final int KEYS = 97;

  private Plan() {}

  static String environment(String name, String fallback) {
    String value = System.getenv(name);
    return value == null || value.isEmpty() ? fallback : value;
  }

  static int recordsPerCodec() {
    return LONG ? RECORDS : Math.max(1, RECORDS / CODECS.size());
  }

  static String topicName(String what) {
    byte[] random = new byte[4];
    ThreadLocalRandom.current().nextBytes(random);
    return "client-java-" + what + "-" + HexFormat.of().formatHex(random);
  }

  static byte[] bytes(String text) {
    return text.getBytes(StandardCharsets.UTF_8);
  }

  /** Keyed records: every 89th is a tombstone, sizes vary, times rise by 1 ms; one header is empty, one is null. */
  static List<ProducerRecord<byte[], byte[]>> records(String topic, String codec, int count) {
    long base = System.currentTimeMillis() / 1000 * 1000 - 3_600_000;
    List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>(count);
    for (int i = 0; i < count; i++) {
      byte[] value = i % 89 == 88 ? null : bytes(codec + " " + i + " " + "flotilla ".repeat(i % 23));
      var record = new ProducerRecord<>(topic, null, base + i, bytes("key-" + i % KEYS), value);
      record.headers().add("number", bytes(Integer.toString(i))).add("codec", bytes(codec));
      record.headers().add("empty", new byte[0]).add("null", null);
      records.add(record);
    }
    return records;
  }

  static void expect(String what, Object got, Object want) {
    if (!Objects.equals(got, want)) {
      throw new AssertionError(what + ": got " + shorten(got) + ", want " + shorten(want));
    }
  }

  /** Runs what must fail with this exception of the Kafka protocol. */
  static void expectError(String what, Class<? extends Exception> want, Callable<?> run) throws Exception {
    Object got;
    try {
      got = run.call();
    } catch (Exception error) {
      Throwable cause = error instanceof ExecutionException ? error.getCause() : error;
      expect(what, cause.getClass().getSimpleName(), want.getSimpleName());
      return;
    }
    throw new AssertionError(what + ": got " + shorten(got) + ", want " + want.getSimpleName());
  }

  /** Waits up to 10 s: brokers may learn of a change a little after its answer. */
  static void eventually(String what, Callable<?> run, Object want) throws Exception {
    long deadline = System.nanoTime() + 10_000_000_000L;
    while (true) {
      Object got;
      try {
        got = run.call();
      } catch (Exception error) {
        got = error.getCause() == null ? error : error.getCause();
      }
      if (Objects.equals(got, want)) {
        return;
      }
      if (System.nanoTime() > deadline) {
        expect(what, got, want);
      }
      Thread.sleep(50);
    }
  }

  static String shorten(Object value) {
    String text = String.valueOf(value).replace('\n', ' ');
    return text.length() <= 400 ? text : text.substring(0, 400) + "...";
  }
}
