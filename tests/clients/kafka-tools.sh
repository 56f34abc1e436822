#!/usr/bin/env bash
# Checks a cluster of three nodes with the command-line tools of Apache Kafka: what the programs kafka-*.sh do, by their classes.
#   kafka-tools.sh LIB    the folder of Kafka's jars (peer/lib)
# Reads FLOTILLA_BOOTSTRAP; prints a line a check; exit code 1 if one failed.
set -uo pipefail

lib=$1
bootstrap=${FLOTILLA_BOOTSTRAP:-127.0.0.1:9092}
name="kafka-tools-$(od -An -N4 -tx4 /dev/urandom | tr -d ' ')"
version=$(basename "$lib"/kafka-tools-4*.jar .jar)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# tool CLASS ARGUMENTS...: runs a tool, its output in $work/out; says on its own output what is wrong.
tool() {
  timeout 60 java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto -Xmx128m -Dorg.slf4j.simpleLogger.defaultLogLevel=off -cp "$lib/*" \
    "$1" --bootstrap-server "$bootstrap" "${@:2}" > "$work/out" 2>&1 || echo "code $? of $*: $(head -n 5 "$work/out")"
}
topics() { tool org.apache.kafka.tools.TopicCommand "$@"; }
configs() { tool kafka.admin.ConfigCommand "$@"; }
groups() { tool org.apache.kafka.tools.consumer.group.ConsumerGroupCommand "$@"; }
reassign() { tool org.apache.kafka.tools.reassign.ReassignPartitionsCommand "$@"; }
elect() { tool org.apache.kafka.tools.LeaderElectionCommand "$@"; }

# says PATTERN...: each is in the output of the tool that ran last.
says() {
  local pattern
  for pattern in "$@"; do
    grep -qE -- "$pattern" "$work/out" || echo "no \"$pattern\" in: $(cat "$work/out")"
  done
}

# refused PATTERN TOOL ARGUMENTS...: the tool fails and says why.
refused() {
  [ -n "$("${@:2}")" ] || grep -qi error "$work/out" || echo "not refused: ${*:2}"
  says "$1"
}

# check LABEL FUNCTION: the function says what is wrong on its output, or nothing.
check() {
  local start=$SECONDS wrong
  wrong=$("$2" 2>&1)
  if [ -z "$wrong" ]; then echo "ok kafka-tools ${version#kafka-tools-} $1 1 $((SECONDS - start))"
  else
    printf 'FAIL kafka-tools %s %s: %.900s\n' "${version#kafka-tools-}" "$1" "${wrong//$'\n'/ | }"
    failed=1
  fi
}

check_topics() {
  topics --create --topic "$name" --partitions 3 --replication-factor 3 --config retention.ms=7200000
  topics --alter --topic "$name" --partitions 4
  topics --list && says "^$name\$"
  topics --describe --topic "$name" &&
    says 'PartitionCount: 4' 'ReplicationFactor: 3' 'retention.ms=7200000' 'Partition: 3.Leader: [1-9]'
  topics --describe --unavailable-partitions && [ ! -s "$work/out" ] || echo "unavailable: $(cat "$work/out")"
  refused 'already exists' topics --create --topic "$name"
  refused "Topic '$name-none' does not exist" topics --describe --topic "$name-none"
}

check_configs() {
  configs --alter --entity-type topics --entity-name "$name" --add-config max.message.bytes=500000,cleanup.policy=compact
  configs --describe --entity-type topics --entity-name "$name" && says 'max.message.bytes=500000' 'cleanup.policy=compact' 'retention.ms=7200000'
  configs --alter --entity-type topics --entity-name "$name" --delete-config cleanup.policy,retention.ms
  configs --describe --entity-type topics --entity-name "$name" && says 'max.message.bytes=500000'
  ! grep -q 'cleanup.policy\|retention.ms' "$work/out" || echo "a deleted config is there: $(cat "$work/out")"
  configs --describe --entity-type brokers --entity-name 1 --all && says 'node.id=1 ' 'message.max.bytes='
  refused 'Unknown topic config name: nonsense' configs --alter --entity-type topics --entity-name "$name" --add-config nonsense=1
}

check_groups() {
  seq 1000 | timeout 60 java -Xmx128m -cp "$lib/*" org.apache.kafka.tools.ConsoleProducer --bootstrap-server "$bootstrap" --topic "$name" \
    > "$work/out" 2>&1 || echo "console producer: $(cat "$work/out")"
  tool org.apache.kafka.tools.consumer.ConsoleConsumer --topic "$name" --group "$name" --from-beginning --max-messages 1000 --timeout-ms 30000
  grep -E '^[0-9]+$' "$work/out" | sort -n | cmp - <(seq 1000) || echo "not all records came back"
  groups --list && says "^$name\$"
  groups --describe --group "$name" && says "^$name +$name +[0-9]+ +[0-9]+ +[0-9]+ +0 "
  groups --describe --group "$name" --state && says 'Empty +0'
  groups --reset-offsets --group "$name" --topic "$name" --to-earliest --execute
  groups --describe --group "$name"
  [ "$(awk -v g="$name" '$1 == g { lag += $6 } END { print lag }' "$work/out")" = 1000 ] || echo "lag after a reset: $(cat "$work/out")"
  groups --delete-offsets --group "$name" --topic "$name:0" && says "$name +0 +Successful"
  groups --delete --group "$name" && says 'was successful'
  refused 'GroupIdNotFound|does not exist' groups --delete --group "$name"
}

# Three partitions of one replica each get two others, with the throttle that operators give; the rate is gone at the end.
check_reassign() {
  local partition
  topics --create --topic "$name-moves" --replica-assignment 1,1,1
  echo "{\"version\":1,\"topics\":[{\"topic\":\"$name-moves\"}]}" > "$work/topics.json"
  reassign --topics-to-move-json-file "$work/topics.json" --broker-list 1,2,3 --generate && says 'Proposed partition reassignment'
  for partition in 0 1 2; do printf '{"topic":"%s-moves","partition":%d,"replicas":[2,3]}\n' "$name" $partition; done |
    paste -sd , | sed 's/.*/{"version":1,"partitions":[&]}/' > "$work/moves.json"
  reassign --reassignment-json-file "$work/moves.json" --execute --throttle 50000000 && says 'Successfully started partition reassignments'
  configs --describe --entity-type brokers --entity-name 1 && says 'leader.replication.throttled.rate=50000000 '
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    reassign --list
    grep -q "$name-moves" "$work/out" || break
  done
  reassign --reassignment-json-file "$work/moves.json" --verify && says "$name-moves-[012] is completed" 'Clearing broker-level throttles'
  topics --describe --topic "$name-moves" && says 'Partition: 2.Leader: [23].Replicas: 2,3.Isr: [23],[23]'
  configs --describe --entity-type brokers --entity-name 1
  ! grep -q throttled "$work/out" || echo "a throttle is left: $(cat "$work/out")"
  reassign --reassignment-json-file "$work/moves.json" --cancel && says 'None of the specified partition'
}

check_election() {
  elect --election-type preferred --all-topic-partitions
  elect --election-type preferred --topic "$name" --partition 0 && says 'Valid replica already elected|Successfully completed'
  refused 'does not host this topic-partition' elect --election-type preferred --topic "$name-none" --partition 0
}

check_cluster() {
  tool org.apache.kafka.tools.MetadataQuorumCommand describe --status && says 'LeaderId: +[123]$' 'CurrentVoters: .*"id": 3'
  tool org.apache.kafka.tools.MetadataQuorumCommand describe --replication && says 'Leader' 'Follower'
  tool org.apache.kafka.tools.FeatureCommand describe && says 'metadata.version.*4.0-IV3' 'group.version.*FinalizedVersionLevel: 1'
  tool org.apache.kafka.tools.FeatureCommand upgrade --feature group.version=1
  tool org.apache.kafka.tools.FeatureCommand downgrade --feature group.version=0 --dry-run && says 'can be downgraded to 0'
  refused 'Could not.* upgrade group.version to 2' tool org.apache.kafka.tools.FeatureCommand upgrade --feature group.version=2
  tool org.apache.kafka.tools.BrokerApiVersionsCommand && says '\(id: 3 ' 'Produce\(0\)'
  tool org.apache.kafka.tools.LogDirsCommand --describe --topic-list "$name" && says "\"partition\":\"$name-0\""
  tool org.apache.kafka.tools.GetOffsetShell --topic "$name" && says "^$name:3:[0-9]+\$"
  echo "{\"version\":1,\"partitions\":[{\"topic\":\"$name\",\"partition\":0,\"offset\":-1}]}" > "$work/delete.json"
  tool org.apache.kafka.tools.DeleteRecordsCommand --offset-json-file "$work/delete.json" && says "$name-0.low_watermark: [0-9]+"
}

check_delete() {
  topics --delete --topic "$name"
  topics --delete --topic "$name-moves"
  topics --list
  ! grep -q "$name" "$work/out" || echo "a deleted topic is listed"
}

check kafka-topics check_topics
check kafka-configs check_configs
check kafka-consumer-groups check_groups
check kafka-reassign-partitions check_reassign
check kafka-leader-election check_election
check kafka-metadata-quorum check_cluster
check kafka-topics-delete check_delete
exit $failed
