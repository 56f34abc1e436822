//! The soft side of a queue's leader, rule by rule, on a cursor without a raft.
use model::cursor::ackset::{Ranges, Settlement};
use model::machine::At;

use super::soft::{Now, Outgoing, Soft};
use super::*;
use crate::peer::queues::{Attachment, Attendant, Hold};

const HERE: NodeId = NodeId(1);
const THERE: NodeId = NodeId(2);
const AGAIN: Verdict = Verdict::Release { counted: true, delay_ms: None };

fn published(next: i64) -> AckSet {
    let mut cursor = AckSet::default();
    apply(&mut cursor, Command::Publish { next, facts: Vec::new() });
    cursor
}

fn apply(cursor: &mut AckSet, command: Command) {
    cursor.apply(At { index: 1, term: 1, leader_ts: 0 }, command, &mut Vec::new()).unwrap();
}

fn attachment(number: u64) -> Attachment {
    Attachment { session: 7, number }
}

fn consumer(consumer: u64, credit: u32) -> Attendant {
    Attendant { consumer, credit, priority: 0, exclusive: false, max_rate: None, gets: false, holds: Vec::new() }
}

fn hold(offset: i64, failures: u32) -> Hold {
    Hold { first: offset, end: offset + 1, failures }
}

/// Says who is there; who is refused.
fn attend(soft: &mut Soft, cursor: &AckSet, from: NodeId, number: u64, who: &[Attendant]) -> Option<usize> {
    soft.attend(cursor, from, (attachment(number), true), who, 1_000).map(|refused| refused.len())
}

/// Node, consumer and offset of all that leaves now.
fn leaves(soft: &mut Soft, cursor: &AckSet) -> Vec<(u32, u64, i64, bool)> {
    soft.deliver(cursor, Now::default(), 1_000);
    let mut all = Vec::new();
    for push in soft.pushes() {
        let item = |item: &Outgoing| (push.to.0, item.consumer, item.offset, item.redelivered);
        all.extend(push.items.iter().map(item));
        soft.pushed(push.to, push.attachment, Vec::new());
    }
    all
}

fn settle(soft: &mut Soft, cursor: &mut AckSet, from: NodeId, settled: Settled) -> bool {
    let Some(verdict) = soft.settle(cursor, from, &settled, Now::default()) else { return false };
    let ranges = Ranges::of([(settled.offset, settled.offset + 1)]);
    apply(cursor, Command::Settle(vec![Settlement { verdict, ranges }]));
    soft.dispatch().applied([(settled.offset, settled.offset + 1)]);
    true
}

fn settled(consumer: u64, offset: i64, failures: u32, verdict: Verdict) -> Settled {
    Settled { consumer, offset, failures, verdict }
}

#[test]
fn consumers_of_all_gateways_take_turns_and_give_back_when_they_go() {
    let cursor = published(6);
    let mut soft = Soft::new(0, &Arguments::default());
    attend(&mut soft, &cursor, HERE, 1, &[consumer(1, 2)]);
    attend(&mut soft, &cursor, THERE, 1, &[consumer(1, 2)]);
    assert_eq!(leaves(&mut soft, &cursor), [(1, 1, 0, false), (1, 1, 2, false), (2, 1, 1, false), (2, 1, 3, false)]);
    soft.gone(THERE, [1]);
    attend(&mut soft, &cursor, HERE, 1, &[consumer(1, 9)]);
    assert_eq!(
        leaves(&mut soft, &cursor),
        [(1, 1, 1, true), (1, 1, 3, true), (1, 1, 4, false), (1, 1, 5, false)],
        "in their old places, and flagged"
    );
    assert_eq!(soft.shown(0).unacked, 6);
}

#[test]
fn a_gateway_that_comes_anew_keeps_what_it_says_it_holds() {
    let cursor = published(4);
    let mut soft = Soft::new(0, &Arguments::default());
    attend(&mut soft, &cursor, THERE, 1, &[consumer(1, 3)]);
    assert_eq!(leaves(&mut soft, &cursor).len(), 3);
    let holding = Attendant { holds: vec![hold(1, 0)], ..consumer(1, 3) };
    attend(&mut soft, &cursor, THERE, 2, &[holding]);
    assert_eq!(attend(&mut soft, &cursor, THERE, 1, &[]), None, "that attachment is over");
    assert_eq!(leaves(&mut soft, &cursor), [(2, 1, 0, true), (2, 1, 2, true)]);
    let other_start = Attachment { session: 8, number: 1 };
    soft.attend(&cursor, THERE, (other_start, true), &[consumer(5, 9)], 1_000);
    assert_eq!(leaves(&mut soft, &cursor).len(), 4, "what an earlier process held is given back");
}

#[test]
fn a_new_leader_takes_claims_and_flags_what_is_old() {
    let cursor = published(3);
    let mut soft = Soft::new(2, &Arguments::default());
    assert!(soft.has_old(&cursor));
    let holding = Attendant { holds: vec![hold(0, 0)], ..consumer(1, 1) };
    attend(&mut soft, &cursor, HERE, 1, &[holding]);
    attend(&mut soft, &cursor, THERE, 1, &[consumer(1, 9)]);
    assert_eq!(leaves(&mut soft, &cursor), [(2, 1, 1, true), (2, 1, 2, false)]);
}

#[test]
fn what_was_given_back_is_not_held_by_who_did_not_hear_of_that_yet() {
    let mut cursor = published(1);
    let ranges = Ranges::of([(0, 1)]);
    apply(&mut cursor, Command::Settle(vec![Settlement { verdict: AGAIN, ranges }]));
    let mut soft = Soft::new(1, &Arguments::default());
    let holding = Attendant { holds: vec![hold(0, 0)], ..consumer(1, 1) };
    attend(&mut soft, &cursor, HERE, 1, &[holding]);
    assert_eq!(leaves(&mut soft, &cursor), [(1, 1, 0, true)], "the leader before has committed that it failed");
    assert!(!settle(&mut soft, &mut cursor, HERE, settled(1, 0, 0, AGAIN)), "and is told so again");
    assert!(settle(&mut soft, &mut cursor, HERE, settled(1, 0, 1, Verdict::Accept)));
}

#[test]
fn a_failure_that_is_told_twice_is_counted_once() {
    let mut cursor = published(2);
    let mut soft = Soft::new(0, &Arguments::default());
    attend(&mut soft, &cursor, HERE, 1, &[consumer(1, 1)]);
    assert_eq!(leaves(&mut soft, &cursor), [(1, 1, 0, false)]);
    assert!(settle(&mut soft, &mut cursor, HERE, settled(1, 0, 0, AGAIN)));
    assert_eq!(leaves(&mut soft, &cursor), [(1, 1, 0, true)]);
    assert!(!settle(&mut soft, &mut cursor, HERE, settled(1, 0, 0, AGAIN)));
    assert_eq!(cursor.exception(0).failures, 1);
    assert!(settle(&mut soft, &mut cursor, HERE, settled(1, 0, 1, AGAIN)));
    assert_eq!(cursor.exception(0).failures, 2);
}

#[test]
fn what_was_done_is_done_whoever_has_it_now() {
    let mut cursor = published(2);
    let mut soft = Soft::new(0, &Arguments::default());
    attend(&mut soft, &cursor, HERE, 1, &[consumer(1, 2)]);
    leaves(&mut soft, &cursor);
    assert!(!settle(&mut soft, &mut cursor, THERE, settled(9, 0, 0, Verdict::Reject(Reason::Rejected))));
    assert!(settle(&mut soft, &mut cursor, THERE, settled(9, 0, 0, Verdict::Accept)));
    assert!(!settle(&mut soft, &mut cursor, HERE, settled(1, 0, 0, AGAIN)), "too late");
    assert!(settle(&mut soft, &mut cursor, HERE, settled(1, 1, 0, Verdict::Accept)));
    assert_eq!((cursor.state().floor, soft.shown(0).unacked), (2, 0));
}

#[test]
fn settlements_of_those_who_have_gone_count_while_nobody_has_the_message() {
    let mut cursor = published(2);
    let mut soft = Soft::new(2, &Arguments::default());
    assert!(settle(&mut soft, &mut cursor, THERE, settled(3, 0, 0, AGAIN)));
    assert!(settle(&mut soft, &mut cursor, THERE, settled(3, 1, 0, Verdict::Reject(Reason::Rejected))));
    assert_eq!((cursor.exception(0).failures, cursor.is_live(1)), (1, false));
}

#[test]
fn an_exclusive_consumer_is_alone() {
    let cursor = published(0);
    let mut soft = Soft::new(0, &Arguments::default());
    let exclusive = |number| Attendant { exclusive: true, ..consumer(number, 1) };
    assert_eq!(attend(&mut soft, &cursor, HERE, 1, &[exclusive(1)]), Some(0));
    assert_eq!(attend(&mut soft, &cursor, THERE, 1, &[consumer(1, 1)]), Some(1));
    assert_eq!(attend(&mut soft, &cursor, HERE, 1, &[consumer(2, 1)]), Some(1), "before the first is gone");
    assert_eq!(attend(&mut soft, &cursor, HERE, 1, &[consumer(2, 1)]), Some(0));
    assert_eq!(attend(&mut soft, &cursor, THERE, 1, &[exclusive(1)]), Some(1));
}

#[test]
fn a_single_active_consumer_gets_all_until_it_goes() {
    let cursor = published(4);
    let mut soft = Soft::new(0, &Arguments { single_active_consumer: true, ..Arguments::default() });
    attend(&mut soft, &cursor, HERE, 1, &[consumer(1, 1), consumer(2, 9)]);
    assert_eq!(leaves(&mut soft, &cursor), [(1, 1, 0, false)]);
    soft.gone(HERE, [1]);
    let rest = leaves(&mut soft, &cursor);
    assert!(rest.len() == 4 && rest.iter().all(|(_, consumer, ..)| *consumer == 2), "{rest:?}");
}

#[test]
fn the_most_important_consumers_are_full_before_others_get_any() {
    let cursor = published(4);
    let mut soft = Soft::new(0, &Arguments::default());
    let important = Attendant { priority: 5, ..consumer(2, 2) };
    attend(&mut soft, &cursor, HERE, 1, &[consumer(1, 9), important]);
    let order: Vec<u64> = leaves(&mut soft, &cursor).into_iter().map(|(_, consumer, ..)| consumer).collect();
    assert_eq!(order, [2, 2, 1, 1]);
}

#[test]
fn who_may_have_so_many_a_second_leaves_the_others_theirs() {
    let cursor = published(40);
    let mut soft = Soft::new(0, &Arguments { max_rate: Some(100), ..Arguments::default() });
    let slow = Attendant { max_rate: Some(10), ..consumer(1, 9) };
    attend(&mut soft, &cursor, HERE, 1, &[slow, consumer(2, 99)]);
    let at = |steady| Now { steady, ..Now::default() };
    let left = |soft: &mut Soft, now| {
        soft.deliver(&cursor, at(now), 9_000);
        let pushes = soft.pushes();
        pushes.iter().for_each(|push| soft.pushed(push.to, push.attachment, Vec::new()));
        let count = |number| pushes.iter().flat_map(|push| &push.items).filter(|item| item.consumer == number).count();
        (count(1), count(2))
    };
    assert_eq!(left(&mut soft, 5_000), (2, 9), "a tenth of a second's worth, and one");
    assert_eq!((left(&mut soft, 5_000), soft.again_at(at(5_000))), ((0, 0), Some(5_011)));
    assert_eq!(left(&mut soft, 5_011), (0, 1));
    assert_eq!(left(&mut soft, 5_211), (2, 9));
    soft.gone(HERE, [1]);
    assert_eq!(left(&mut soft, 9_999).1, 11, "and has it when they have gone");
}

#[test]
fn less_credit_takes_back_what_did_not_leave() {
    let cursor = published(5);
    let mut soft = Soft::new(0, &Arguments::default());
    attend(&mut soft, &cursor, HERE, 1, &[consumer(1, 4)]);
    soft.deliver(&cursor, Now::default(), 1_000);
    attend(&mut soft, &cursor, HERE, 1, &[consumer(1, 0)]);
    assert_eq!((leaves(&mut soft, &cursor), soft.shown(0).unacked), (Vec::new(), 0));
    attend(&mut soft, &cursor, HERE, 1, &[consumer(1, 1)]);
    assert_eq!(leaves(&mut soft, &cursor).len(), 1);
}

#[test]
fn a_message_that_is_got_stays_with_who_got_it() {
    let cursor = published(2);
    let mut soft = Soft::new(0, &Arguments::default());
    let get = |soft: &mut Soft, number, consumer| {
        let got = soft.get(&cursor, HERE, (attachment(number), consumer), (Now::default(), 1_000));
        got.map(|got| got.map(|outgoing| outgoing.offset))
    };
    assert_eq!(get(&mut soft, 1, 4), None);
    attend(&mut soft, &cursor, HERE, 1, &[]);
    assert_eq!(get(&mut soft, 1, 4), Some(Some(0)));
    assert_eq!(get(&mut soft, 1, 4), Some(Some(0)), "the answer may have been lost");
    assert_eq!(get(&mut soft, 1, 5), Some(Some(1)));
    assert_eq!(get(&mut soft, 1, 6), Some(None));
    assert_eq!(soft.shown(0).consumers, 0);
    soft.gone(HERE, [4]);
    assert_eq!(get(&mut soft, 1, 6), Some(Some(0)));
}

#[test]
fn a_gateway_that_stays_dead_holds_nothing() {
    let cursor = published(1);
    let mut soft = Soft::new(0, &Arguments::default());
    attend(&mut soft, &cursor, THERE, 1, &[consumer(1, 1)]);
    leaves(&mut soft, &cursor);
    for _ in 0..3 {
        soft.look(|_| None);
    }
    soft.look(|_| Some(1));
    assert_eq!(soft.shown(0).unacked, 1);
    for _ in 0..4 {
        soft.look(|_| None);
    }
    assert_eq!((soft.shown(0).unacked, soft.has_consumers()), (0, false));
}

#[test]
fn a_node_whose_process_is_another_one_has_lost_what_it_held() {
    let (cursor, mut soft) = (published(1), Soft::new(0, &Arguments::default()));
    attend(&mut soft, &cursor, THERE, 1, &[consumer(1, 1)]);
    soft.is_of(THERE, Some(7));
    leaves(&mut soft, &cursor);
    soft.look(|_| Some(7));
    assert_eq!(soft.shown(0).unacked, 1);
    soft.look(|_| Some(8));
    assert_eq!((soft.shown(0).unacked, soft.has_consumers()), (0, false));
}

#[test]
fn a_gateway_that_was_given_up_begins_another_attachment() {
    let (cursor, mut soft) = (published(2), Soft::new(0, &Arguments::default()));
    attend(&mut soft, &cursor, THERE, 1, &[consumer(1, 1)]);
    leaves(&mut soft, &cursor);
    for _ in 0..4 {
        soft.look(|_| None);
    }
    assert_eq!(attend(&mut soft, &cursor, THERE, 1, &[consumer(1, 1)]), None, "it would take new pushes for old ones");
    assert_eq!(attend(&mut soft, &cursor, THERE, 2, &[consumer(1, 1)]), Some(0));
    assert_eq!(leaves(&mut soft, &cursor), [(2, 1, 0, true)]);
}

#[test]
fn the_active_consumer_is_the_one_that_works() {
    let (cursor, mut soft) =
        (published(3), Soft::new(1, &Arguments { single_active_consumer: true, ..Arguments::default() }));
    attend(&mut soft, &cursor, THERE, 1, &[consumer(1, 9)]);
    let holding = Attendant { holds: vec![hold(0, 0)], ..consumer(1, 9) };
    attend(&mut soft, &cursor, HERE, 1, std::slice::from_ref(&holding));
    assert_eq!(leaves(&mut soft, &cursor), [(1, 1, 1, false), (1, 1, 2, false)], "whoever came first");
    let holding = Attendant { holds: vec![hold(0, 0), hold(1, 0), hold(2, 0)], ..holding };
    attend(&mut soft, &cursor, HERE, 2, &[holding]);
    soft.gone(HERE, [1]);
    assert_eq!(leaves(&mut soft, &cursor).len(), 3, "the other one's turn");
}

#[test]
fn who_asks_for_a_message_gets_it_and_nobody_else_does() {
    let (cursor, mut soft) =
        (published(4), Soft::new(0, &Arguments { single_active_consumer: true, ..Arguments::default() }));
    attend(&mut soft, &cursor, HERE, 1, &[consumer(1, 1)]);
    assert_eq!(leaves(&mut soft, &cursor), [(1, 1, 0, false)]);
    attend(&mut soft, &cursor, HERE, 1, &[consumer(1, 1), consumer(2, 5)]);
    let got = soft.get(&cursor, HERE, (attachment(1), 9), (Now::default(), 1_000));
    assert_eq!(got.flatten().map(|outgoing| outgoing.offset), Some(1));
    assert!(soft.pushes().is_empty());
}
