//! Plans of small fleets told one by one, and of any fleet by what must hold.

use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

fn carrier(rack: Option<&str>) -> Carrier {
    Carrier { rack: rack.map(str::to_owned), takes: true, leaves: false, leads: true }
}

fn piece(place: usize, bytes: u64, replicas: &[u32]) -> Piece {
    let replicas: Vec<NodeId> = replicas.iter().map(|node| NodeId(*node)).collect();
    let well = replicas.iter().copied().collect();
    Piece {
        topic: format!("t{}", place % 3),
        index: PartitionIndex(place as i32),
        bytes,
        replicas,
        well,
        is_changing: false,
    }
}

/// Nodes 1..=racks.len(), and pieces by bytes and nodes.
fn fleet(racks: &[Option<&str>], pieces: &[(u64, &[u32])]) -> Fleet {
    let nodes = (1..).zip(racks).map(|(node, rack)| (NodeId(node), carrier(*rack))).collect();
    let pieces = pieces.iter().enumerate().map(|(place, (bytes, nodes))| piece(place, *bytes, nodes)).collect();
    Fleet { nodes, pieces }
}

/// The fleet as it is once the plan is carried out.
fn carried_out(fleet: &Fleet, plan: &Plan) -> Fleet {
    let mut after = fleet.clone();
    for one in &plan.moves {
        let moved = after.pieces.iter_mut().find(|piece| (&piece.topic, piece.index) == (&one.topic, one.index));
        let moved = moved.expect("a piece of the fleet");
        let new = one.to.iter().filter(|node| !one.from.contains(node));
        moved.well = moved.well.iter().chain(new).copied().filter(|node| one.to.contains(node)).collect();
        moved.replicas.clone_from(&one.to);
    }
    after
}

fn racks(fleet: &Fleet, nodes: &[NodeId]) -> usize {
    let rack = |node: &NodeId| fleet.nodes[node].rack.clone().unwrap_or_else(|| format!("of node {node}"));
    nodes.iter().map(rack).collect::<BTreeSet<_>>().len()
}

#[test]
fn a_new_node_gets_its_share_and_no_more_is_copied() {
    let pieces: Vec<(u64, &[u32])> = (0..24).map(|_| (100 * MIB, &[1, 2, 3][..])).collect();
    let fleet = fleet(&[None; 4], &pieces);
    let plan = plan(&fleet);
    for (node, load) in &plan.after {
        assert!((17..=19).contains(&load.replicas), "node {node}: {load:?}");
        assert!((5..=7).contains(&load.leaders), "node {node}: {load:?}");
    }
    let fair = 24 * 3 * 100 * MIB / 4;
    assert!(plan.bytes() <= fair, "{} bytes are copied to fill one node with {fair}", plan.bytes());
}

#[test]
fn a_node_that_leaves_is_emptied_into_its_rack_or_stays_where_no_place_is() {
    let racks = [Some("a"), Some("b"), Some("c"), Some("a")];
    let mut fleet = fleet(&racks, &[(MIB, &[1, 2, 3]), (MIB, &[2, 3, 1])]);
    fleet.nodes.get_mut(&NodeId(1)).unwrap().leaves = true;
    let emptied = plan(&fleet);
    assert_eq!(emptied.after[&NodeId(1)], Load::default());
    assert_eq!(emptied.after[&NodeId(4)].replicas, 2);
    fleet.nodes.get_mut(&NodeId(4)).unwrap().takes = false;
    let stuck = plan(&fleet);
    let why: Vec<Why> = stuck.stays.iter().map(|stay| stay.why).collect();
    assert_eq!(why, [Why::NoPlace(NodeId(1)); 2]);
}

#[test]
fn only_what_must_leaves_and_a_node_that_dies_meanwhile_is_replaced() {
    let mut fleet = fleet(&[None; 5], &[(MIB, &[1, 2, 3]), (MIB, &[2, 3, 4]), (MIB, &[2, 3, 4])]);
    fleet.nodes.get_mut(&NodeId(1)).unwrap().leaves = true;
    let moves = plan_leaving(&fleet).moves;
    assert_eq!(moves.len(), 1, "{moves:?}");
    assert_eq!(moves[0].to, [5, 2, 3].map(NodeId));
    fleet.nodes.get_mut(&NodeId(5)).unwrap().takes = false;
    let lost = |node| node == NodeId(5);
    assert_eq!(replace(&fleet, &moves[0], lost), Some([4, 2, 3].map(NodeId).into()));
    fleet.nodes.get_mut(&NodeId(4)).unwrap().takes = false;
    assert_eq!(replace(&fleet, &moves[0], lost), None);
}

#[test]
fn what_a_move_leaves_gets_it_back_only_if_no_other_can_have_it() {
    // The change has begun: node 3 counts as free of it already, and is the lightest.
    let mut fleet = fleet(&[None; 5], &[(MIB, &[1, 2, 4]), (MIB, &[5, 1, 2])]);
    let [from, to] = [[1, 2, 3], [1, 2, 4]].map(|nodes| nodes.map(NodeId).into());
    let one = Move { topic: fleet.pieces[0].topic.clone(), index: fleet.pieces[0].index, from, to, bytes: 0 };
    let lost = |node| node == NodeId(4);
    fleet.nodes.get_mut(&NodeId(4)).unwrap().takes = false;
    assert_eq!(replace(&fleet, &one, lost), Some([1, 2, 5].map(NodeId).into()));
    fleet.nodes.get_mut(&NodeId(5)).unwrap().takes = false;
    assert_eq!(replace(&fleet, &one, lost), Some([1, 2, 3].map(NodeId).into()));
}

#[test]
fn racks_that_are_not_used_are_filled_first() {
    let fleet = fleet(&[Some("a"), Some("a"), Some("b")], &[(MIB, &[1, 2])]);
    let plan = plan(&fleet);
    assert_eq!(racks(&fleet, &plan.moves[0].to), 2);
}

#[test]
fn leaders_are_levelled_along_chains() {
    // Node 1 leads three, node 3 none; there is no partition that both hold.
    let fleet = fleet(&[None; 3], &[(0, &[1, 2]), (0, &[1, 2]), (0, &[1, 2]), (0, &[2, 3])]);
    let plan = plan_leaders(&fleet);
    let leaders: Vec<usize> = plan.after.values().map(|load| load.leaders).collect();
    assert_eq!((leaders, plan.bytes()), (vec![2, 1, 1], 0));
}

#[test]
fn who_is_drained_leads_nothing_and_who_lags_is_not_asked_to() {
    let mut fleet = fleet(&[None; 3], &[(0, &[1, 2, 3]), (0, &[1, 2, 3])]);
    fleet.nodes.get_mut(&NodeId(1)).unwrap().leads = false;
    fleet.pieces.iter_mut().for_each(|piece| piece.well.retain(|node| node.0 != 2));
    let plan = plan_leaders(&fleet);
    let leaders: Vec<usize> = plan.after.values().map(|load| load.leaders).collect();
    assert_eq!(leaders, [0, 0, 2]);
}

#[test]
fn a_node_can_stop_while_majorities_stay() {
    let mut fleet = fleet(&[None; 3], &[(0, &[1, 2, 3]), (0, &[2]), (0, &[3, 1])]);
    let lost =
        |fleet: &Fleet, node| quorum_lost(fleet, NodeId(node)).iter().map(|risk| risk.index.0).collect::<Vec<_>>();
    assert_eq!([lost(&fleet, 1), lost(&fleet, 2), lost(&fleet, 3)], [vec![2], vec![1], vec![2]]);
    fleet.pieces[0].well.remove(&NodeId(3));
    assert_eq!(lost(&fleet, 1), [0, 2], "one that lags does not count");
    assert_eq!(
        quorum_lost(&fleet, NodeId(2))[0],
        Risk { topic: "t0".into(), index: PartitionIndex(0), left: 1, needed: 2 }
    );
}

/// Up to seven nodes in up to three racks or none, and up to 60 partitions anywhere; some of both unwell.
fn any_fleet() -> impl Strategy<Value = Fleet> {
    let node = (0u8..4, 0u8..10).prop_map(|(rack, state)| Carrier {
        rack: (rack > 0).then(|| format!("r{rack}")),
        takes: state != 0,
        leaves: state == 1,
        leads: state != 2,
    });
    let drawn = (0u64..200, proptest::collection::vec(any::<u32>(), 1..5), 0u8..20);
    (proptest::collection::vec(node, 1..8), proptest::collection::vec(drawn, 0..60)).prop_map(|(nodes, pieces)| {
        let nodes: BTreeMap<NodeId, Carrier> = (1..).map(NodeId).zip(nodes).collect();
        let count = nodes.len() as u32;
        let make = |(place, (size, dice, state)): (usize, (u64, Vec<u32>, u8))| {
            let mut on: Vec<u32> = Vec::new();
            for die in dice {
                let node = die % count + 1;
                if !on.contains(&node) {
                    on.push(node);
                }
            }
            let mut made = piece(place, size * size * 10_000, &on);
            made.well.retain(|node| nodes[node].takes);
            if state == 0 {
                made.well.remove(&made.replicas[0]);
            }
            made.is_changing = state == 1;
            made
        };
        let pieces = pieces.into_iter().enumerate().map(make).collect();
        Fleet { nodes, pieces }
    })
}

proptest! {
    #![proptest_config(crate::testing::config())]

    #[test]
    fn a_plan_keeps_what_must_be_kept_and_comes_to_an_end(fleet in any_fleet()) {
        let first = plan(&fleet);
        for one in &first.moves {
            let piece = fleet.pieces.iter().find(|piece| (&piece.topic, piece.index) == (&one.topic, one.index)).unwrap();
            prop_assert!(!piece.is_changing && piece.well.len() > piece.replicas.len() / 2);
            prop_assert_eq!(&one.from, &piece.replicas);
            let distinct: BTreeSet<_> = one.to.iter().collect();
            prop_assert_eq!(distinct.len(), one.from.len());
            prop_assert!(racks(&fleet, &one.to) >= racks(&fleet, &one.from), "{:?}", one);
            let new = one.to.iter().filter(|node| !one.from.contains(node));
            prop_assert!(new.clone().all(|node| fleet.nodes[node].takes && !fleet.nodes[node].leaves));
            prop_assert_eq!(one.bytes, piece.bytes * new.count() as u64);
        }
        let after = carried_out(&fleet, &first);
        let told: BTreeMap<NodeId, Load> = Draft::of(&after).loads;
        prop_assert_eq!(&told, &first.after);
        let again = plan(&after);
        prop_assert!(again.moves.is_empty(), "a second plan moves {:?}", again.moves);
        for piece in after.pieces.iter().filter(|piece| !piece.is_changing) {
            for node in piece.replicas.iter().filter(|node| fleet.nodes[node].leaves) {
                let told = |stay: &Stay| stay.topic == piece.topic && stay.index == piece.index;
                prop_assert!(first.stays.iter().any(told), "{:?} stays on node {} and nobody says so", piece, node);
            }
        }
    }

    #[test]
    fn loads_are_within_a_tenth_where_pieces_are_small_and_free(
        nodes in 2u32..8, sizes in proptest::collection::vec(1u64..20, 150..300), on in 1u32..8,
    ) {
        let pieces: Vec<Piece> = sizes.iter().enumerate().map(|(place, size)| piece(place, size * MIB, &[on % nodes + 1])).collect();
        let fleet = Fleet { nodes: (1..=nodes).map(|node| (NodeId(node), carrier(None))).collect(), pieces };
        let plan = plan(&fleet);
        let weight = |load: &Load| load.bytes + load.replicas as u64 * REPLICA_BYTES;
        let mean = plan.after.values().map(weight).sum::<u64>() / u64::from(nodes);
        for (node, load) in &plan.after {
            prop_assert!(weight(load).abs_diff(mean) * 100 <= mean * TOLERANCE_PERCENT, "node {} has {:?}, mean {}", node, load, mean);
        }
        let surplus = plan.before.values().map(|load| load.bytes).max().unwrap();
        prop_assert!(plan.bytes() <= surplus, "{} bytes are moved of {}", plan.bytes(), surplus);
    }

    #[test]
    fn leaders_differ_by_one_where_all_hold_all(nodes in 1u32..7, count in 0usize..50, first in proptest::collection::vec(0usize..7, 50)) {
        let all: Vec<u32> = (1..=nodes).collect();
        let rotated = |place: usize| {
            let mut on = all.clone();
            on.rotate_left(first[place] % all.len());
            piece(place, 0, &on)
        };
        let fleet = Fleet { nodes: all.iter().map(|node| (NodeId(*node), carrier(None))).collect(), pieces: (0..count).map(rotated).collect() };
        let plan = plan_leaders(&fleet);
        let leaders = || plan.after.values().map(|load| load.leaders);
        prop_assert!(leaders().max().unwrap() - leaders().min().unwrap() <= 1);
        prop_assert!(plan.moves.iter().all(|one| one.bytes == 0));
    }
}
