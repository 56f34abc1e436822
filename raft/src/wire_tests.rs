//! The frames between nodes, byte for byte: a change here is a new format.

use bytes::Bytes;
use model::NodeId;
use openraft::raft::AppendEntriesRequest;

use super::*;
use crate::types::{Data, EntryPayload, Members, Vote};

fn replica(node: u32) -> ReplicaId {
    ReplicaId::new(NodeId(node), 1)
}

fn ballot() -> Ballot {
    Ballot { term: 7, replica: replica(2), committed: true }
}

fn at(index: u64) -> Position {
    Position { term: 7, index }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn entries() -> Vec<Entry> {
    let data = Payload::append(5, vec![Bytes::from_static(b"first"), Bytes::from_static(b"second")]);
    let voters = [replica(1), replica(2)].into();
    let members = Members { voters: vec![voters], everybody: [replica(1), replica(2), replica(3)].into() };
    vec![
        Entry::new(log_id(7, 10), EntryPayload::Blank),
        Entry::new(log_id(7, 11), EntryPayload::Normal(Data(data))),
        Entry::new(log_id(7, 12), EntryPayload::Membership(members.to_raft().unwrap())),
    ]
}

fn request() -> AppendEntriesRequest<TypeConfig> {
    AppendEntriesRequest {
        vote: Vote::from(ballot()),
        prev_log_id: Some(log_id(6, 9)),
        entries: entries(),
        leader_commit: Some(log_id(6, 8)),
    }
}

#[test]
fn an_append_survives_the_way_in_any_slicing() {
    let (head, body) = append(request(), None, false);
    assert_eq!(body.len(), 6, "three heads, two batches, one membership: slices of what is stored, no copies");
    let whole = Bytes::from(body.concat());
    let frame = Request { from: replica(2), to: replica(1), call: Call::Append(head) }.to_frame(body);
    for frame in [Frame { head: frame.head.clone(), body: vec![whole] }, frame] {
        let back = Request::from_frame(&frame).unwrap();
        let Call::Append(head) = back.call else { panic!("{back:?}") };
        let back = head.into_raft(frame.joined()).unwrap();
        assert_eq!(
            (back.vote, back.prev_log_id, back.leader_commit),
            (request().vote, Some(log_id(6, 9)), Some(log_id(6, 8)))
        );
        assert_eq!(back.entries.len(), 3);
        for (back, sent) in back.entries.into_iter().zip(entries()) {
            assert_eq!(back.log_id, sent.log_id);
            assert_eq!(to_payload(back.payload), to_payload(sent.payload));
        }
    }
}

#[test]
fn an_append_is_cut_into_some_that_follow_each_other() {
    let entry = |index| {
        let data = Payload::append(5, vec![Bytes::from(vec![0; 100 * index as usize])]);
        Entry::new(log_id(7, index), EntryPayload::Normal(Data(data)))
    };
    let whole = |entries| AppendEntriesRequest { entries, prev_log_id: Some(log_id(7, 0)), ..request() };
    let parts = split(whole((1..=5).map(entry).collect()), 400);
    let indexes =
        |part: &AppendEntriesRequest<TypeConfig>| part.entries.iter().map(|entry| entry.log_id.index).collect();
    let found: Vec<Vec<u64>> = parts.iter().map(indexes).collect();
    assert_eq!(found, [vec![1, 2], vec![3], vec![4], vec![5]], "one that is larger goes alone");
    let before: Vec<_> = parts.iter().map(|part| part.prev_log_id.unwrap().index).collect();
    assert_eq!(before, [0, 2, 3, 4]);
    assert!(parts.iter().all(|part| part.vote == request().vote && part.leader_commit == request().leader_commit));
    let nothing = split(whole(Vec::new()), 400);
    assert_eq!((nothing.len(), nothing[0].prev_log_id), (1, Some(log_id(7, 0))), "a request without entries is one");
}

#[test]
fn lengths_that_lie_are_refused() {
    let (head, body) = append(request(), None, false);
    let whole = Bytes::from(body.concat());
    for end in 0..whole.len() {
        assert!(head.clone().into_raft(whole.slice(..end)).is_err(), "cut at {end}");
    }
    let mut longer = whole.to_vec();
    longer.push(0);
    assert!(head.clone().into_raft(Bytes::from(longer)).is_err());
    let mut hole = head.clone();
    hole.entries[1].at.index += 1;
    assert!(hole.into_raft(whole.clone()).is_err(), "a hole in the indexes");
    let mut huge = head;
    huge.entries[0].bytes = u64::MAX;
    assert!(huge.into_raft(whole).is_err());
}

#[test]
fn golden_requests() {
    let golden = |call, want: &str| {
        let frame = Request { from: replica(2), to: replica(1), call }.to_frame(Vec::new());
        assert_eq!(hex(&frame.head), want);
        assert_eq!(Request::from_frame(&frame).unwrap().to_frame(Vec::new()), frame);
    };
    let candidacy = Candidacy { candidate: ballot(), last: Some(at(3)), transfer: true };
    let head = EntryHead { at: at(10), bytes: 300 };
    let append = Append {
        leader: ballot(),
        previous: Some(at(9)),
        committed: None,
        entries: vec![head],
        seal: Some(Seal { index: 2, digest: 3 }),
        asleep: true,
    };
    let members = SetMembers {
        at: Some(at(0)),
        members: Members { voters: vec![[replica(1)].into()], everybody: [replica(1)].into() },
    };
    golden(
        Call::Append(append),
        "01fd0100000002000000fd01000000010000000007fd0100000002000000010107090001070afb2c0101020301",
    );
    golden(Call::Vote(candidacy), "01fd0100000002000000fd01000000010000000107fd01000000020000000101070301");
    golden(Call::PreVote(candidacy), "01fd0100000002000000fd01000000010000000207fd01000000020000000101070301");
    golden(
        Call::Transfer { leader: ballot(), target: replica(1), last: None },
        "01fd0100000002000000fd01000000010000000307fd010000000200000001fd010000000100000000",
    );
    golden(
        Call::Snapshot { leader: ballot(), last: Some(at(4)), members },
        "01fd0100000002000000fd01000000010000000407fd0100000002000000010107040107000101fd010000000100000001fd0100000001000000",
    );
    golden(
        Call::Sleep(Pact { leader: replica(2), term: 7, last: at(9) }),
        "01fd0100000002000000fd010000000100000005fd0100000002000000070709",
    );
    golden(Call::Wake, "01fd0100000002000000fd010000000100000006");
}

#[test]
fn golden_answers() {
    let golden = |answer: Answer, want: &str| {
        let frame = answer.to_frame();
        assert_eq!(hex(&frame.head), want);
        assert_eq!(Answer::from_frame(&frame).unwrap(), answer);
    };
    golden(Answer::Appended, "0100");
    golden(Answer::Conflict, "0101");
    golden(Answer::HigherVote(ballot()), "010207fd010000000200000001");
    golden(Answer::Vote { vote: ballot(), granted: true, last: Some(at(3)) }, "010307fd01000000020000000101010703");
    golden(Answer::Transferred, "0104");
    golden(Answer::NotTransferred("no".to_owned()), "0105026e6f");
    golden(Answer::Snapshot(ballot()), "010607fd010000000200000001");
    golden(Answer::Refused(Refusal::NotOpen), "010700");
    golden(Answer::Refused(Refusal::OtherReplica(replica(3))), "010701fd0100000003000000");
    golden(Answer::Refused(Refusal::Stopped), "010702");
    golden(Answer::Refused(Refusal::Malformed("x".to_owned())), "0107030178");
    golden(Answer::Refused(Refusal::Asleep), "010704");
    golden(Answer::Asleep, "0108");
    golden(Answer::Awake("no".to_owned()), "0109026e6f");
}
