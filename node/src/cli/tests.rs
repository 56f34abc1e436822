//! The command line as people type it: every form of the issue parses, mistakes are refused.

use clap::{CommandFactory, Parser};

use super::Cli;

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_documented_command_parses() {
    let lines = [
        "dev --nodes 5 --data d --kafka-port 1 --amqp-port 2 --admin-port 3 --peer-port 4 --plain",
        "dev --ephemeral",
        "server --config node.toml --print-config",
        "server --node-id 2 --data d --set raft.node_heartbeat=150ms --insecure",
        "topic ls",
        "topic ls -o json --bootstrap 127.0.0.1:9093",
        "topic create a --partitions 3 --replication 3 --config retention.ms=1000",
        "topic describe a",
        "topic alter a --set retention.ms=1 --unset cleanup.policy --partitions 9",
        "topic rm a b",
        "topic produce hello -",
        "topic produce hello --key-separator : -z zstd",
        "topic consume hello --start latest -n 3 --format %k:%v\\n -o json",
        "cluster info",
        "cluster config set num.partitions=6 a=b=c --node 2 --dry-run",
        "cluster config get num.partitions -o json",
        "cluster features ls",
        "cluster features set group.version=0 --dry-run",
        "cluster features finalize",
        "context add prod --bootstrap a:9092,b:9092 --admin a:9640",
        "context use prod",
        "cluster health --wait --timeout 5s",
        "node ls -o json",
        "partition describe orders -o json",
        "partition describe orders 3 --admin 127.0.0.1:9641",
        "partition move orders 3 --to 4,2,1 --watch",
        "leader transfer orders 3 --to 2",
        "leader transfer orders 3 -o json",
        "cluster can-stop 2",
        "node drain 2 --dry-run",
        "group rebalance readers --dry-run",
        "queue ls -o json",
        "queue describe orders",
        "queue declare orders -a x-message-ttl=60000 --argument x-queue-type=quorum --auto-delete --transient",
        "queue bind amq.topic orders --key order.*",
        "queue unbind amq.headers orders -a x-match=any -a color=red",
        "queue delete orders --admin 127.0.0.1:9641",
        "exchange ls",
        "exchange declare later --type x-delayed-message -a x-delayed-type=topic --internal",
        "exchange bind later amq.topic -k #",
        "exchange delete later --if-unused",
        "group rebalance readers --watch -o json",
        "node undrain 2",
        "node decommission 4 --watch -o json",
        "node recommission 4",
        "node rm 4 --dry-run",
        "rebalance plan --leaders",
        "rebalance apply --watch",
        "rebalance apply --dry-run",
        "rebalance status",
        "operation ls",
        "operation watch 3",
        "operation cancel 3",
        "raft quorum",
        "raft transfer --to 2",
        "raft ls --admin 127.0.0.1:9641",
        "bench produce --dev --seconds 10 --batch 16KiB --acks all -o json",
        "bench consume --record-size 100B --topics 2 --partitions 3 --clients 4 --in-flight 5",
        "bench e2e --rate 1000 --consumers 10",
        "bench produce --dev --set log.level=warn --data d --disk d --svg f.svg --warm-up 0",
        "bench produce --pid 1,2,3 --batch 0B --config min.insync.replicas=2 --replication 3",
        "bench idle --topics 10 --partitions 1000",
        "check config node.toml",
        "completion bash",
    ];
    for line in lines {
        let arguments = std::iter::once("flotilla").chain(line.split(' '));
        Cli::try_parse_from(arguments).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn mistakes_are_refused() {
    for line in [
        "dev --nodes 0",
        "dev --ephemeral --data d",
        "topic consume a --start soon",
        "bench produce --acks none",
        "bench produce --rate 0",
        "bench produce --set log.level=warn",
        "topic create a -c x",
        "cluster config set num.partitions",
        "context add prod",
        "cluster features set group.version=on",
    ] {
        let arguments = std::iter::once("flotilla").chain(line.split(' '));
        assert!(Cli::try_parse_from(arguments).is_err(), "{line}");
    }
}
