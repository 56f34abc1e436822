// Topic and broker configs through Kafka's own Admin: describe, alter, defaults, refusals, and their effect.
package flotilla.clients;

import static flotilla.clients.Plan.eventually;
import static flotilla.clients.Plan.expect;
import static flotilla.clients.Plan.expectError;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.AlterConfigsOptions;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConfigEntry.ConfigSource;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.ListConfigResourcesOptions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

final class ConfigChecks {
  /** Topic keys a client may set and Kafka 4 describes. */
  private static final List<String> TOPIC_KEYS =
      List.of(
          "cleanup.policy", "compression.type", "delete.retention.ms", "file.delete.delay.ms", "flush.messages",
          "flush.ms", "index.interval.bytes", "max.compaction.lag.ms", "max.message.bytes",
          "message.timestamp.after.max.ms", "message.timestamp.before.max.ms", "message.timestamp.type",
          "min.cleanable.dirty.ratio", "min.compaction.lag.ms", "min.insync.replicas", "preallocate",
          "retention.bytes", "retention.ms", "segment.bytes", "segment.index.bytes", "segment.jitter.ms",
          "segment.ms", "unclean.leader.election.enable");

  private final Admin admin;
  private final RoundTrip topics;

  ConfigChecks(Admin admin, RoundTrip topics) {
    this.admin = admin;
    this.topics = topics;
  }

  Map<String, Report.Check> all() {
    Map<String, Report.Check> checks = new LinkedHashMap<>();
    checks.put("config/describe-topic", this::describeTopic);
    checks.put("config/describe-broker", this::describeBroker);
    checks.put("config/alter", this::alter);
    checks.put("config/append", this::append);
    checks.put("config/refused", this::refused);
    checks.put("config/list-resources", this::listResources);
    return checks;
  }

  private static ConfigResource topic(String name) {
    return new ConfigResource(ConfigResource.Type.TOPIC, name);
  }

  private Config describe(ConfigResource resource) throws Exception {
    return admin.describeConfigs(List.of(resource)).all().get().get(resource);
  }

  private Void set(String topic, String key, String value, OpType how) throws Exception {
    return set(topic, key, value, how, new AlterConfigsOptions());
  }

  private Void set(String topic, String key, String value, OpType how, AlterConfigsOptions options) throws Exception {
    var change = new AlterConfigOp(new ConfigEntry(key, value), how);
    return admin.incrementalAlterConfigs(Map.of(topic(topic), List.of(change)), options).all().get();
  }

  private int describeTopic() throws Exception {
    String name = Plan.topicName("config");
    topics.create(name, 1, Map.of("retention.ms", "1234567"));
    eventually("retention.ms", () -> describe(topic(name)).get("retention.ms").value(), "1234567");
    Config config = describe(topic(name));
    expect("source of what was set", config.get("retention.ms").source(), ConfigSource.DYNAMIC_TOPIC_CONFIG);
    expect("is it a default", config.get("retention.ms").isDefault(), false);
    Set<String> keys = config.entries().stream().map(ConfigEntry::name).collect(Collectors.toSet());
    expect("keys missing", TOPIC_KEYS.stream().filter(key -> !keys.contains(key)).toList(), List.of());
    for (ConfigEntry entry : config.entries()) {
      expect(entry.name() + " has a value", entry.value() != null, true);
      expect(entry.name() + " has a type", entry.type() != ConfigEntry.ConfigType.UNKNOWN, true);
    }
    expect("default of cleanup.policy", config.get("cleanup.policy").source(), ConfigSource.DEFAULT_CONFIG);
    var options = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
    var full = admin.describeConfigs(List.of(topic(name)), options).all().get().get(topic(name)).get("retention.ms");
    expect("first synonym", full.synonyms().get(0).value(), "1234567");
    expect("documentation", full.documentation() != null && !full.documentation().isEmpty(), true);
    topics.delete(name);
    return 7 + config.entries().size();
  }

  private int describeBroker() throws Exception {
    var node = admin.describeCluster().nodes().get().iterator().next();
    var config = describe(new ConfigResource(ConfigResource.Type.BROKER, node.idString()));
    expect("entries are given", config.entries().isEmpty(), false);
    expect("num.partitions", config.get("num.partitions").value(), Integer.toString(Plan.PARTITIONS));
    return 2;
  }

  private int alter() throws Exception {
    String name = Plan.topicName("alter");
    topics.create(name, 1, Map.of("max.message.bytes", "100000"));
    set(name, "retention.ms", "9999", OpType.SET, new AlterConfigsOptions().validateOnly(true));
    expect("after validateOnly", describe(topic(name)).get("retention.ms").isDefault(), true);
    set(name, "retention.ms", "9999", OpType.SET);
    eventually("retention.ms set", () -> describe(topic(name)).get("retention.ms").value(), "9999");
    expect("other key kept", describe(topic(name)).get("max.message.bytes").value(), "100000");
    set(name, "retention.ms", null, OpType.DELETE);
    eventually("retention.ms deleted", () -> describe(topic(name)).get("retention.ms").value(), "604800000");
    topics.delete(name);
    return 4;
  }

  private int append() throws Exception {
    String name = Plan.topicName("append");
    topics.create(name, 1, Map.of());
    // Without compaction, which a cluster may not have: what is there already is appended, what is not is taken away.
    set(name, "cleanup.policy", "delete", OpType.APPEND);
    set(name, "cleanup.policy", "compact", OpType.SUBTRACT);
    set(name, "retention.ms", "77", OpType.SET);
    eventually("a later change is seen", () -> describe(topic(name)).get("retention.ms").value(), "77");
    expect("appended and subtracted", describe(topic(name)).get("cleanup.policy").value(), "delete");
    expectError(
        "append to what is no list",
        InvalidConfigurationException.class,
        () -> set(name, "retention.ms", "1", OpType.APPEND));
    topics.delete(name);
    return 3;
  }

  private int refused() throws Exception {
    String name = Plan.topicName("refuse");
    topics.create(name, 1, Map.of());
    var wrong = InvalidConfigurationException.class;
    expectError("not a number", wrong, () -> set(name, "retention.ms", "soon", OpType.SET));
    expectError("no such key", wrong, () -> set(name, "retention.eons", "1", OpType.SET));
    expectError("out of range", wrong, () -> set(name, "min.insync.replicas", "0", OpType.SET));
    expectError("not a choice", wrong, () -> set(name, "compression.type", "rar", OpType.SET));
    String absent = Plan.topicName("absent");
    var unknown = UnknownTopicOrPartitionException.class;
    expectError("alter an unknown topic", unknown, () -> set(absent, "retention.ms", "1", OpType.SET));
    expectError("describe an unknown topic", unknown, () -> describe(topic(absent)));
    var bad = new NewTopic(absent, 1, Plan.REPLICATION).configs(Map.of("retention.ms", "soon"));
    expectError("create with a bad config", wrong, () -> admin.createTopics(List.of(bad)).all().get());
    topics.delete(name);
    return 7;
  }

  private int listResources() throws Exception {
    String name = Plan.topicName("resources");
    topics.create(name, 1, Map.of());
    Set<ConfigResource.Type> wanted = Set.of(ConfigResource.Type.TOPIC);
    eventually(
        "listed among the config resources",
        () -> admin.listConfigResources(wanted, new ListConfigResourcesOptions()).all().get().contains(topic(name)),
        true);
    topics.delete(name);
    return 1;
  }
}
