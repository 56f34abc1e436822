//! One old message that nobody settles, in a log that retention would have cut long ago: it stays, and the disk does not.
use std::time::Duration;

use model::command::{Payload, Tag};
use model::controller::NewTopic;
use model::cursor::ackset::{Command, Config, Ranges, Settlement, Verdict};
use model::cursor::{Batch, CursorCommand};
use node::broker::random_topic_id;
use storage::codec;

use crate::world::{World, append, eventually, read_all, ready, topic_as};

const MESSAGES: i64 = 400;

#[tokio::test(flavor = "multi_thread")]
async fn one_old_message_is_kept_without_the_log_behind_it() {
    let world = World::new(1, 1);
    let mut config = world.config(1);
    config.storage.retention_check = Duration::from_millis(100);
    let node = world.start_with(config).await.unwrap();
    ready(node.broker()).await;
    let broker = node.broker();
    let limits = [("retention.ms", "-1"), ("retention.bytes", "65536"), ("segment.bytes", "8192")];
    let configs = limits.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let new = NewTopic { partitions: 1, replication: 1, configs, ..NewTopic::named("queue", random_topic_id()) };
    let partition = topic_as(&[broker], new).await[0];
    let group = broker.image().topic_by_id(partition.topic).unwrap().partitions[0].group;
    let raft = broker.rafts().into_iter().find(|raft| raft.id() == group).unwrap();
    let open = CursorCommand::Open { cursor: 0, config: Config::default() };
    let ask = |command| {
        let body = codec::encode(&Batch(vec![command]));
        raft.propose(vec![Payload::command(Tag::CursorBatch, 2_000, body)])
    };
    ask(open).await.remove(0).unwrap();
    for number in 0..MESSAGES {
        append(&[broker], partition, &format!("{number} {}", ".".repeat(1_000))).await;
        if number % 50 == 49 {
            let ranges = Ranges::of([(1, 200), (201, number + 1)].into_iter().filter(|(_, end)| *end <= number + 1));
            let command = Command::Settle(vec![Settlement { verdict: Verdict::Accept, ranges }]);
            ask(CursorCommand::Run { cursor: 0, command }).await.remove(0).unwrap();
        }
    }
    eventually("the disk is freed", || raft.space().is_some_and(|space| space.bytes < 2 * 65_536)).await;
    let values = read_all(&[broker], partition).await;
    let (offsets, texts): (Vec<i64>, Vec<&str>) =
        values.iter().map(|(offset, value)| (*offset, value.split(' ').next().unwrap())).unzip();
    assert!(offsets.iter().zip(&texts).all(|(offset, text)| offset.to_string() == **text), "{offsets:?} {texts:?}");
    assert_eq!((offsets[0], offsets[1]), (0, 200), "{offsets:?}");
    assert_eq!(offsets.last(), Some(&(MESSAGES - 1)));
    assert!(offsets.len() < 150, "what is settled and too old is gone: {}", offsets.len());
    let state = raft.partition(|machine| *machine.cursor(0).unwrap().state()).unwrap();
    assert_eq!((state.floor, state.next), (0, MESSAGES));
    node.stop().await;
}
