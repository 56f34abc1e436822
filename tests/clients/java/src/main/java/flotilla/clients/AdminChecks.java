// What Kafka's own Admin sees of topics, partitions, offsets, nodes and disks.
package flotilla.clients;

import static flotilla.clients.Plan.eventually;
import static flotilla.clients.Plan.expect;
import static flotilla.clients.Plan.expectError;

import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.DescribeTopicsOptions;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

final class AdminChecks {
  private final Admin admin;
  private final RoundTrip topics;

  AdminChecks(Admin admin, RoundTrip topics) {
    this.admin = admin;
    this.topics = topics;
  }

  Map<String, Report.Check> all() {
    Map<String, Report.Check> checks = new LinkedHashMap<>();
    checks.put("admin/cluster", this::cluster);
    checks.put("admin/create", this::create);
    checks.put("admin/describe", this::describe);
    checks.put("admin/describe-pages", this::describeInPages);
    checks.put("admin/delete-by-id", this::deleteById);
    checks.put("admin/create-partitions", this::createPartitions);
    checks.put("admin/list-offsets", this::listOffsets);
    checks.put("admin/delete-records", this::deleteRecords);
    checks.put("admin/log-dirs", this::logDirs);
    checks.put("later/producers", this::producers);
    checks.put("admin/features", this::features);
    return checks;
  }

  private Set<Integer> nodes() throws Exception {
    return admin.describeCluster().nodes().get().stream().map(Node::id).collect(Collectors.toSet());
  }

  private int cluster() throws Exception {
    var described = admin.describeCluster();
    Set<Integer> nodes = nodes();
    expect("as many nodes as replicas, or more", nodes.size() >= Plan.REPLICATION, true);
    expect("the controller is a node", nodes.contains(described.controller().get().id()), true);
    expect("the cluster id is not empty", described.clusterId().get().isEmpty(), false);
    for (Node node : described.nodes().get()) {
      expect("host of node " + node.id() + " is given", node.host().isEmpty(), false);
    }
    return 3 + nodes.size();
  }

  private int create() throws Exception {
    String topic = Plan.topicName("create");
    var wanted = List.of(new NewTopic(topic, Plan.PARTITIONS, Plan.REPLICATION));
    var tried = admin.createTopics(wanted, new CreateTopicsOptions().validateOnly(true));
    tried.all().get();
    expect("created by validateOnly", admin.listTopics().names().get().contains(topic), false);
    var created = admin.createTopics(wanted);
    expect("partitions in the answer", created.numPartitions(topic).get(), Plan.PARTITIONS);
    expect("replicas in the answer", created.replicationFactor(topic).get(), (int) Plan.REPLICATION);
    expect("configs in the answer", created.config(topic).get().get("cleanup.policy").value(), "delete");
    expect("topic id in the answer", created.topicId(topic).get().equals(Uuid.ZERO_UUID), false);
    eventually("listed", () -> admin.listTopics().names().get().contains(topic), true);
    expectError("create twice", TopicExistsException.class, () -> admin.createTopics(wanted).all().get());
    expectError("bad name", InvalidTopicException.class, () -> createOne(new NewTopic("no spaces", 1, (short) 1)));
    String other = Plan.topicName("bad");
    expectError("0 partitions", InvalidPartitionsException.class, () -> createOne(new NewTopic(other, 0, (short) 1)));
    expectError(
        "more replicas than nodes",
        InvalidReplicationFactorException.class,
        () -> createOne(new NewTopic(other, 1, (short) 100)));
    topics.delete(topic);
    eventually("listed after deletion", () -> admin.listTopics().names().get().contains(topic), false);
    expectError("delete twice", UnknownTopicOrPartitionException.class, () -> admin.deleteTopics(List.of(topic)).all().get());
    defaults();
    return 12;
  }

  /** Partitions and replicas of -1 stand for the cluster's defaults. */
  private void defaults() throws Exception {
    String topic = Plan.topicName("defaults");
    createOne(new NewTopic(topic, java.util.Optional.empty(), java.util.Optional.empty()));
    topics.settled(topic, Plan.PARTITIONS);
    topics.delete(topic);
  }

  private Void createOne(NewTopic topic) throws ExecutionException, InterruptedException {
    return admin.createTopics(List.of(topic)).all().get();
  }

  private int describe() throws Exception {
    String topic = Plan.topicName("describe");
    topics.create(topic, Plan.PARTITIONS, Map.of());
    TopicDescription byName = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
    Uuid id = byName.topicId();
    expect("topic id is set", id.equals(Uuid.ZERO_UUID), false);
    eventually(
        "described by id",
        () -> admin.describeTopics(TopicCollection.ofTopicIds(List.of(id))).allTopicIds().get().get(id).name(),
        topic);
    Set<Integer> nodes = nodes();
    for (var partition : byName.partitions()) {
      expect("leader of " + partition, nodes.contains(partition.leader().id()), true);
      Set<Integer> replicas = partition.replicas().stream().map(Node::id).collect(Collectors.toSet());
      expect("replicas of " + partition, replicas.size(), (int) Plan.REPLICATION);
      expect("replicas of " + partition + " are nodes", nodes.containsAll(replicas), true);
      expect("in sync of " + partition, partition.isr().size(), (int) Plan.REPLICATION);
    }
    Set<Integer> leaders = byName.partitions().stream().map(p -> p.leader().id()).collect(Collectors.toSet());
    expect("leaders are spread", leaders.size() >= Math.min(2, nodes.size()), true);
    expectError(
        "describe an unknown id",
        UnknownTopicIdException.class,
        () -> admin.describeTopics(TopicCollection.ofTopicIds(List.of(Uuid.randomUuid()))).allTopicIds().get());
    expectError(
        "describe an unknown name",
        UnknownTopicOrPartitionException.class,
        () -> admin.describeTopics(List.of(Plan.topicName("absent"))).allTopicNames().get());
    topics.delete(topic);
    return 4 + 4 * Plan.PARTITIONS;
  }

  /** DescribeTopicPartitions with a page limit below the partition count: the cursor must lead through all. */
  private int describeInPages() throws Exception {
    String first = Plan.topicName("pages-a");
    String second = Plan.topicName("pages-b");
    topics.create(first, 5, Map.of());
    topics.create(second, 5, Map.of());
    var options = new DescribeTopicsOptions().partitionSizeLimitPerResponse(2);
    var described = admin.describeTopics(List.of(first, second), options).allTopicNames().get();
    for (String topic : List.of(first, second)) {
      List<Integer> partitions = described.get(topic).partitions().stream().map(p -> p.partition()).toList();
      expect("partitions of " + topic, partitions, List.of(0, 1, 2, 3, 4));
      topics.delete(topic);
    }
    return 2;
  }

  private int deleteById() throws Exception {
    String topic = Plan.topicName("by-id");
    topics.create(topic, 1, Map.of());
    Uuid id = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).topicId();
    admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all().get();
    eventually("listed after deletion", () -> admin.listTopics().names().get().contains(topic), false);
    expectError(
        "delete an unknown id",
        UnknownTopicIdException.class,
        () -> admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all().get());
    topics.create(topic, 1, Map.of());
    eventually(
        "id differs after deletion and creation",
        () -> admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).topicId().equals(id),
        false);
    topics.delete(topic);
    return 3;
  }

  private int createPartitions() throws Exception {
    String topic = Plan.topicName("grow");
    topics.create(topic, 2, Map.of());
    admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all().get();
    topics.settled(topic, 5);
    expectError("shrink", InvalidPartitionsException.class, () -> grow(topic, 3));
    expectError("same count", InvalidPartitionsException.class, () -> grow(topic, 5));
    expectError("unknown topic", UnknownTopicOrPartitionException.class, () -> grow(Plan.topicName("absent"), 3));
    var sent = Plan.records(topic, "none", 200);
    topics.produce("none", sent);
    expect("partitions with records", topics.read(topic, 5).values().stream().filter(r -> !r.isEmpty()).count(), 5L);
    topics.delete(topic);
    return 5;
  }

  private Void grow(String topic, int total) throws ExecutionException, InterruptedException {
    return admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(total))).all().get();
  }

  private ListOffsetsResultInfo offset(TopicPartition partition, OffsetSpec spec) throws Exception {
    return admin.listOffsets(Map.of(partition, spec)).partitionResult(partition).get();
  }

  private int listOffsets() throws Exception {
    String topic = Plan.topicName("offsets");
    topics.create(topic, 1, Map.of());
    var partition = new TopicPartition(topic, 0);
    expect("earliest of an empty partition", offset(partition, OffsetSpec.earliest()).offset(), 0L);
    expect("latest of an empty partition", offset(partition, OffsetSpec.latest()).offset(), 0L);
    expect("by time in an empty partition", offset(partition, OffsetSpec.forTimestamp(0)).offset(), -1L);
    expect("newest in an empty partition", offset(partition, OffsetSpec.maxTimestamp()).offset(), -1L);
    var sent = Plan.records(topic, "gzip", 300);
    topics.produce("gzip", sent);
    expect("latest", offset(partition, OffsetSpec.latest()).offset(), 300L);
    var at = offset(partition, OffsetSpec.forTimestamp(sent.get(123).timestamp()));
    expect("by time", at.offset(), 123L);
    expect("time found", at.timestamp(), sent.get(123).timestamp());
    expect("leader epoch is given", at.leaderEpoch().isPresent(), true);
    var newest = offset(partition, OffsetSpec.maxTimestamp());
    expect("newest", newest.offset(), 299L);
    expect("newest time", newest.timestamp(), sent.get(299).timestamp());
    expect("after the last", offset(partition, OffsetSpec.forTimestamp(System.currentTimeMillis())).offset(), -1L);
    expect("before the first", offset(partition, OffsetSpec.forTimestamp(1)).offset(), 0L);
    topics.delete(topic);
    return 12;
  }

  private int deleteRecords() throws Exception {
    String topic = Plan.topicName("trim");
    topics.create(topic, 1, Map.of());
    var partition = new TopicPartition(topic, 0);
    var sent = Plan.records(topic, "lz4", 100);
    topics.produce("lz4", sent);
    expect("low watermark", trim(partition, 33), 33L);
    expect("earliest", offset(partition, OffsetSpec.earliest()).offset(), 33L);
    expect("low watermark stays", trim(partition, 10), 33L);
    var rows = topics.read(topic, 1).get(0);
    expect("records left", rows.size(), 67);
    for (int i = 0; i < rows.size(); i++) {
      RoundTrip.same("offset " + rows.get(i).offset(), rows.get(i), sent.get(33 + i));
    }
    expectError("past the end", OffsetOutOfRangeException.class, () -> trim(partition, 101));
    expect("all, by -1", trim(partition, -1), 100L);
    expect("nothing left", topics.read(topic, 1).get(0).size(), 0);
    topics.produce("lz4", Plan.records(topic, "lz4", 5));
    expect("offsets go on", topics.read(topic, 1).get(0).get(0).offset(), 100L);
    topics.delete(topic);
    return 8;
  }

  private long trim(TopicPartition partition, long before) throws Exception {
    var deleted = admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(before)));
    return deleted.lowWatermarks().get(partition).get().lowWatermark();
  }

  private int logDirs() throws Exception {
    String topic = Plan.topicName("disk");
    topics.create(topic, 1, Map.of());
    topics.produce("none", Plan.records(topic, "none", 1000));
    var partition = new TopicPartition(topic, 0);
    eventually(
        "replicas of the partition on disk, with bytes",
        () -> {
          int replicas = 0;
          for (var directories : admin.describeLogDirs(nodes()).allDescriptions().get().values()) {
            for (var directory : directories.values()) {
              var info = directory.replicaInfos().get(partition);
              replicas += info != null && info.size() > 0 && directory.error() == null ? 1 : 0;
            }
          }
          return replicas;
        },
        (int) Plan.REPLICATION);
    topics.delete(topic);
    return 1;
  }

  /** DescribeProducers names the idempotent producer that wrote last. */
  private int producers() throws Exception {
    String topic = Plan.topicName("producers");
    topics.create(topic, 1, Map.of());
    topics.produce("none", Plan.records(topic, "none", 10));
    var partition = new TopicPartition(topic, 0);
    var active = admin.describeProducers(List.of(partition)).partitionResult(partition).get().activeProducers();
    expect("producers", active.size(), 1);
    expect("its last sequence", active.get(0).lastSequence(), 9);
    topics.delete(topic);
    return 2;
  }

  private int features() throws Exception {
    var features = admin.describeFeatures().featureMetadata().get();
    Set<String> finalized = new HashSet<>(features.finalizedFeatures().keySet());
    expect("metadata.version is finalized", finalized.contains("metadata.version"), true);
    return 1;
  }
}
