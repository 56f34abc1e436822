//! Golden files, round trips and hostile bytes for `codec`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use model::{GroupId, NodeId, ReplicaId, StoreId};
use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Unit,
    Tuple(u8, i64),
    Struct { text: String, bytes: Vec<u8> },
}

/// One of each construct our types use: a change of any encoding rule shows in its golden file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Sample {
    numbers: (u8, u16, u32, u64, i8, i16, i32, i64, bool),
    large: [u64; 4],
    ids: (NodeId, StoreId, ReplicaId, GroupId),
    options: (Option<u32>, Option<String>),
    shapes: Vec<Shape>,
    map: BTreeMap<String, u32>,
}

fn sample() -> Sample {
    Sample {
        numbers: (1, 2, 3, 4, -1, -2, -3, -4, true),
        large: [250, 251, 65_536, u64::MAX],
        ids: (NodeId(3), StoreId(u64::MAX / 3), ReplicaId::new(NodeId(3), 2), GroupId::FIRST_PARTITION),
        options: (None, Some("some".into())),
        shapes: vec![Shape::Unit, Shape::Tuple(7, -7), Shape::Struct { text: "é".into(), bytes: vec![0, 255] }],
        map: BTreeMap::from([("a".into(), 1), ("b".into(), 300)]),
    }
}

/// Compares with (or, with REWRITE=1, rewrites) a file of `src/golden`, as lines of 32 hex bytes.
fn golden(name: &str, bytes: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/golden").join(name);
    let lines = bytes.chunks(32).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n");
    let text: String = lines.collect();
    if std::env::var_os("REWRITE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "the encoding changed: {name}");
}

#[test]
fn encoding_is_pinned_by_golden_files() {
    golden("sample.hex", &encode(&sample()));
    golden(
        "identity.hex",
        &encode(&crate::Identity {
            format: 1,
            store: StoreId(0x0123_4567_89ab_cdef),
            node: NodeId(2),
            cluster: Some("flotilla-test".into()),
        }),
    );
}

#[test]
fn values_round_trip() {
    assert_eq!(decode::<Sample>(&encode(&sample()), 1 << 20).unwrap(), sample());
    let long = vec![7u8; 3 << 20];
    assert_eq!(decode::<Vec<u8>>(&encode(&long), LIMIT_MAX).unwrap(), long);
}

#[test]
fn wrong_bytes_are_refused() {
    let good = encode(&sample());
    assert!(decode::<Sample>(&good, good.len() - 1).is_err(), "over the limit");
    assert!(decode::<Sample>(&[], 100).is_err(), "empty");
    assert!(decode::<Sample>(&[&[2], &good[1..]].concat(), 1 << 20).is_err(), "another format");
    assert!(decode::<Sample>(&[&good[..], &[0]].concat(), 1 << 20).is_err(), "left over");
    for cut in 0..good.len() {
        assert!(decode::<Sample>(&good[..cut], 1 << 20).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_length_field_cannot_demand_memory() {
    // Format byte, then the varint 2^62 as the length of a byte string: must be an error, not an allocation.
    let mut hostile = vec![FORMAT, 253];
    hostile.extend_from_slice(&(1u64 << 62).to_le_bytes());
    assert!(decode::<Vec<u8>>(&hostile, 1 << 20).is_err());
    assert!(decode::<String>(&hostile, 1 << 20).is_err());
    assert!(decode::<Vec<Sample>>(&hostile, 1 << 20).is_err());
}
