//! S14: what admins are told of creating, growing, changing and deleting a topic is what one machine would tell, doing one thing
//! after the other at some moment between question and answer (Herlihy and Wing 1990). An operation of unknown outcome may happen
//! at any time after it began, or never. Each topic is an object of its own; stateright's tester looks for an order.

use std::collections::{BTreeMap, BTreeSet};

use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

use crate::history::History;
use crate::history::operation::{Action, Kind, Operation};

/// A topic, as the machine holds it: partitions and `retention.ms`, if it exists.
#[derive(Clone, Debug, Default)]
struct Topic(Option<(i32, Option<i64>)>);

/// What the machine may tell.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    Done,
    Exists,
    Missing,
    NotMore,
    Found(Option<(i32, Option<i64>)>),
}

impl SequentialSpec for Topic {
    type Op = Action;
    type Ret = Told;

    fn invoke(&mut self, action: &Action) -> Told {
        match (action, &mut self.0) {
            (Action::CreateTopic { partitions, .. }, missing @ None) => {
                *missing = Some((*partitions, None));
                Told::Done
            }
            (Action::CreateTopic { .. }, Some(_)) => Told::Exists,
            (Action::DescribeTopic { .. }, topic) => Told::Found(*topic),
            (_, None) => Told::Missing,
            (Action::CreatePartitions { partitions, .. }, Some((count, _))) if partitions <= count => Told::NotMore,
            (Action::CreatePartitions { partitions, .. }, Some((count, _))) => {
                *count = *partitions;
                Told::Done
            }
            (Action::AlterConfig { retention_ms, .. }, Some((_, retention))) => {
                *retention = Some(*retention_ms);
                Told::Done
            }
            (_, topic) => {
                *topic = None;
                Told::Done
            }
        }
    }
}

/// An order must exist for the operations on each topic.
pub fn check(history: &History) -> Vec<String> {
    let mut topics: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in &history.operations {
        if let Some(topic) = topic(&operation.action) {
            topics.entry(topic).or_default().push(operation);
        }
    }
    let broken = topics.iter().filter(|(_, operations)| !is_linearizable(operations));
    broken
        .map(|(topic, operations)| format!("no order explains what was told of {topic}: {}", words(operations)))
        .collect()
}

/// The topic that an admin's operation is about.
pub fn topic(action: &Action) -> Option<&str> {
    match action {
        Action::CreateTopic { topic, .. }
        | Action::DeleteTopic { topic }
        | Action::CreatePartitions { topic, .. }
        | Action::AlterConfig { topic, .. }
        | Action::DescribeTopic { topic, .. } => Some(topic),
        Action::Send { .. } | Action::Poll { .. } | Action::DeleteRecords { .. } => None,
    }
}

fn is_linearizable(operations: &[&Operation]) -> bool {
    let mut tester = LinearizabilityTester::new(Topic::default());
    let mut broken = BTreeSet::new();
    for operation in operations {
        let result = match (operation.kind, told(operation)) {
            (Kind::Invoke, _) => tester.on_invoke(operation.process, operation.action.clone()).map(drop),
            (_, Some(told)) => tester.on_return(operation.process, told).map(drop),
            // Its process never does anything else: for the tester it stays under way for ever.
            (_, None) => Ok(()),
        };
        broken.extend(result.err());
    }
    broken.is_empty() && tester.is_consistent()
}

/// What an operation was told; nothing if nobody knows.
fn told(operation: &Operation) -> Option<Told> {
    let code = operation.error.as_deref();
    match (operation.kind, &operation.action) {
        (Kind::Ok, Action::DescribeTopic { found, .. }) => Some(Told::Found(*found)),
        (Kind::Ok, _) => Some(Told::Done),
        (Kind::Fail, Action::CreateTopic { .. }) if code == Some("36") => Some(Told::Exists),
        (Kind::Fail, Action::CreatePartitions { .. }) if code == Some("37") => Some(Told::NotMore),
        (Kind::Fail, _) => Some(Told::Missing),
        (Kind::Invoke | Kind::Info, _) => None,
    }
}

fn words(operations: &[&Operation]) -> String {
    let line = |operation: &&Operation| {
        let Operation { process, kind, action, error, time, .. } = operation;
        format!("\n    {:>9.3}s {process} {kind:?} {action:?} {}", *time as f64 / 1e9, error.as_deref().unwrap_or(""))
    };
    operations.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn create() -> Action {
        Action::CreateTopic { topic: "t".to_owned(), partitions: 1 }
    }

    fn delete() -> Action {
        Action::DeleteTopic { topic: "t".to_owned() }
    }

    fn describe(found: Option<(i32, Option<i64>)>) -> Action {
        Action::DescribeTopic { topic: "t".to_owned(), found }
    }

    /// Events in order: process, kind, action, error code.
    fn violations(events: &[(u32, Kind, Action, Option<&str>)]) -> usize {
        let mut history = History::default();
        for (at, (process, kind, action, error)) in (0..).zip(events) {
            history.record(Duration::from_secs(at), *process, *kind, action.clone(), error.map(str::to_owned));
        }
        check(&history).len()
    }

    #[test]
    fn two_creations_cannot_both_be_new() {
        let one = [(1, Kind::Invoke, create(), None), (1, Kind::Ok, create(), None), (2, Kind::Invoke, create(), None)];
        let with = |last| violations(&[&one[..], &[last]].concat());
        assert_eq!(with((2, Kind::Fail, create(), Some("36"))), 0);
        assert_eq!(with((2, Kind::Ok, create(), None)), 1);
        assert_eq!(with((2, Kind::Info, create(), None)), 0);
    }

    #[test]
    fn an_unknown_deletion_may_happen_late_but_only_once() {
        let begun = [
            (1, Kind::Invoke, create(), None),
            (1, Kind::Ok, create(), None),
            (2, Kind::Invoke, delete(), None),
            (2, Kind::Info, delete(), Some("7")),
        ];
        let read = |process, found| {
            vec![(process, Kind::Invoke, describe(None), None), (process, Kind::Ok, describe(found), None)]
        };
        let there = Some((1, None));
        let then = |reads: &[Option<(i32, Option<i64>)>]| {
            let reads = reads.iter().flat_map(|found| read(9, *found));
            violations(&begun.iter().cloned().chain(reads).collect::<Vec<_>>())
        };
        assert_eq!(then(&[there, None]), 0);
        assert_eq!(then(&[None, None]), 0);
        assert_eq!(then(&[None, there]), 1);
    }

    #[test]
    fn a_lost_change_is_seen() {
        let grow = Action::CreatePartitions { topic: "t".to_owned(), partitions: 3 };
        let events = |found| {
            violations(&[
                (1, Kind::Invoke, create(), None),
                (1, Kind::Ok, create(), None),
                (1, Kind::Invoke, grow.clone(), None),
                (1, Kind::Ok, grow.clone(), None),
                (9, Kind::Invoke, describe(None), None),
                (9, Kind::Ok, describe(found), None),
            ])
        };
        assert_eq!(events(Some((3, None))), 0);
        assert_eq!(events(Some((1, None))), 1);
    }
}
