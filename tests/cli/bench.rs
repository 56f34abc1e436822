//! `flotilla bench` against a cluster of its own: what a report must say, whatever the machine reaches.

use serde_json::Value;

use crate::ok;

/// Runs a measurement of three seconds, of which a disk may stall for two, in a folder that is gone afterwards.
fn report(arguments: &[&str]) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let svg = folder.path().join("run.svg");
    let path = folder.path().to_str().expect("UTF-8");
    let common = ["--dev", "--data", path, "--seconds", "3", "-o", "json", "--svg", svg.to_str().expect("UTF-8")];
    let text = ok(&[&["bench"], arguments, &common[..]].concat(), "");
    let picture = std::fs::read_to_string(&svg).expect("the picture");
    assert!(picture.starts_with("<svg ") && picture.contains("<polyline "), "{picture}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("the folder").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["run.svg"], "the cluster's folder stays");
    serde_json::from_str(&text).expect("one JSON object")
}

fn number(report: &Value, name: &str) -> f64 {
    report[name].as_f64().unwrap_or_else(|| panic!("no {name} in {report}"))
}

#[test]
fn produce_keeps_its_rate_and_tells_what_it_cost() {
    let report = report(&["produce", "--rate", "500", "--record-size", "100B", "--batch", "0B", "--partitions", "3"]);
    let rate = number(&report, "records_per_s");
    assert!((20.0..=2_000.0).contains(&rate), "{rate} records/s");
    assert!((number(&report, "mb_per_s") - rate * 100.0 / 1e6).abs() < 0.001, "values alone count");
    assert!(number(&report, "p50_ms") <= number(&report, "p99_ms"));
    for cost in ["cores", "rss_mib", "fsyncs_per_s", "records_per_fsync", "disk_mb_per_s", "disk_sync_p50_ms"] {
        assert!(number(&report, cost) > 0.0, "{cost}");
    }
}

#[test]
fn every_consumer_reads_everything() {
    let drained = report(&["consume", "--consumers", "3", "--rate", "2000", "--in-flight", "4"]);
    let records = number(&drained, "records_per_s") * number(&drained, "seconds");
    assert!(records >= 150.0, "{records} records of three times about 6,000");
    let received = report(&["e2e", "--consumers", "2", "--rate", "200"]);
    assert_eq!(number(&received, "undelivered"), 0.0);
    assert!((20.0..=2_000.0).contains(&number(&received, "records_per_s")), "{received}");
}
