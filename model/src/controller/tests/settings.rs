//! What is set for the cluster: the memory of configs that changed, and the levels of features.

use super::*;

#[test]
fn features_change_together_and_go_down_only_on_purpose() {
    let mut machine = cluster(1);
    let mut update = |updates: &[(&str, i16, bool)], validate_only| {
        let one = |&(name, level, may_lower): &(&str, i16, bool)| FeatureUpdate { name: name.into(), level, may_lower };
        let updates = updates.iter().map(one).collect();
        let reply = apply(&mut machine, Command::UpdateFeatures(UpdateFeatures { updates, validate_only }));
        match &reply.outcome {
            Outcome::Each(results) => (codes(results), machine.image().feature(features::GROUP_VERSION)),
            other => panic!("{other:?}"),
        }
    };
    let refused = Some(Code::InvalidUpdateVersion);
    assert_eq!(update(&[("group.version", 0, false)], false), (vec![refused], 1), "not by mistake");
    assert_eq!(update(&[("group.version", 0, true)], true), (vec![None], 1), "only checked");
    assert_eq!(update(&[("group.version", 0, true), ("metadata.version", 24, true)], false), (vec![refused; 2], 1));
    assert_eq!(update(&[("group.version", 2, true)], false), (vec![refused], 1));
    assert_eq!(update(&[("nonsense", 1, true)], false), (vec![refused], 1));
    assert_eq!(update(&[("group.version", 0, true), ("metadata.version", 25, false)], false), (vec![None; 2], 0));
    assert_eq!(update(&[("group.version", 1, false)], false), (vec![None], 1));
}

#[test]
fn changes_of_configs_are_remembered_and_the_oldest_forgotten() {
    let mut machine = cluster(1);
    apply(&mut machine, create(vec![topic("t", 1)]));
    let mut set = |resource, key: &str, value: Option<String>| {
        let kind = if value.is_some() { OpKind::Set } else { OpKind::Delete };
        let ops = vec![ConfigOp { key: key.to_owned(), kind, value }];
        let changes = vec![IncrementalChange { resource, ops }];
        let command = IncrementalAlterConfigs { changes, validate_only: false };
        let at = At { index: 1, term: 1, leader_ts: 77 };
        machine.apply(at, Command::IncrementalAlterConfigs(command), &mut Out::default());
        machine.image()
    };
    let image = set(ConfigResource::Topic("t".into()), "retention.ms", Some("5000".into()));
    let first = ConfigChange {
        version: image.version,
        at_ms: 77,
        resource: ConfigResource::Topic("t".into()),
        key: "retention.ms".into(),
        before: None,
        after: Some("5000".into()),
    };
    assert_eq!(image.settings.changes, [first]);
    let image = set(ConfigResource::Topic("t".into()), "retention.ms", Some("5000".into()));
    assert_eq!(image.settings.changes.len(), 1, "what is set to what it was is no change");
    let image = set(ConfigResource::Topic("t".into()), "retention.ms", Some("-7".into()));
    assert_eq!(image.settings.changes.len(), 1, "what is refused is no change");
    let image = set(ConfigResource::Topic("t".into()), "retention.ms", None);
    let last = image.settings.changes.back().unwrap();
    assert_eq!((last.before.as_deref(), last.after.as_deref()), (Some("5000"), None));
    for partitions in 1..=300 {
        set(ConfigResource::Cluster, "num.partitions", Some(partitions.to_string()));
    }
    let image = set(ConfigResource::Cluster, "num.partitions", Some("301".into()));
    assert_eq!(image.settings.changes.len(), 256);
    assert_eq!(image.settings.changes.back().unwrap().before.as_deref(), Some("300"));
    assert_eq!(Image::restore(image.snapshot()), *image, "a snapshot keeps them");
}
