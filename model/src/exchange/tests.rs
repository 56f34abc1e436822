//! Routing, rule by rule, and topic patterns against a plain matcher.

use proptest::prelude::*;

use super::*;

fn table(kind: ExchangeKind, bindings: &[(&str, &str)]) -> Table {
    let mut table = Table::new(kind, HashOn::Key);
    for (key, queue) in bindings {
        table.insert(&binding(key, queue, &[]));
    }
    table
}

fn binding(key: &str, queue: &str, arguments: &[(&str, ArgValue)]) -> Binding {
    Binding {
        source: "x".to_owned(),
        destination: Destination::Queue(queue.to_owned()),
        key: key.to_owned(),
        arguments: args(arguments),
    }
}

fn args(arguments: &[(&str, ArgValue)]) -> Args {
    arguments.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

fn reached(table: &Table, key: &str, headers: &Args) -> Vec<String> {
    let mut names = Vec::new();
    table.each(&Routed { key, headers }, |destination| names.push(destination.name().to_owned()));
    names.sort();
    names
}

fn by_key(table: &Table, key: &str) -> String {
    reached(table, key, &Args::new()).concat()
}

#[test]
fn direct_wants_the_key_and_fanout_does_not() {
    let bindings = [("a", "1"), ("a", "2"), ("b", "3"), ("", "4")];
    let direct = table(ExchangeKind::Direct, &bindings);
    assert_eq!((by_key(&direct, "a"), by_key(&direct, ""), by_key(&direct, "c")), ("12".into(), "4".into(), "".into()));
    assert_eq!(by_key(&table(ExchangeKind::Fanout, &bindings), "whatever"), "1234");
}

#[test]
fn a_star_is_one_word_and_a_hash_any_number() {
    let bindings = [
        ("a.b.c", "1"),
        ("a.*.c", "2"),
        ("a.#", "3"),
        ("#", "4"),
        ("#.c", "5"),
        ("*", "6"),
        ("*.#.*", "7"),
        ("", "8"),
        ("a.#.#.c", "9"),
    ];
    let topic = table(ExchangeKind::Topic, &bindings);
    for (key, fits) in [
        ("a.b.c", "1234579"),
        ("a", "346"),
        ("", "48"),
        ("a.c", "34579"),
        ("c", "456"),
        ("a.b", "347"),
        ("a..c", "234579"),
        ("*", "46"),
        ("#", "46"),
        (".", "47"),
    ] {
        assert_eq!(by_key(&topic, key), fits, "{key:?}");
    }
}

#[test]
fn what_is_unbound_is_not_found_and_leaves_nothing() {
    let mut topic = table(ExchangeKind::Topic, &[("a.#", "1"), ("a.#", "2"), ("a.b", "1"), ("#.b", "3")]);
    assert!(!topic.insert(&binding("a.b", "1", &[])), "a binding is one however often it is made");
    assert!(topic.remove(&binding("a.#", "1", &[])));
    assert!(!topic.remove(&binding("a.#", "1", &[])));
    assert_eq!((by_key(&topic, "a.b"), topic.len()), ("123".into(), 3));
    assert!(topic.remove_all(&Destination::Queue("1".to_owned())));
    assert!(!topic.remove_all(&Destination::Exchange("2".to_owned())), "an exchange of that name is another thing");
    assert_eq!(by_key(&topic, "a.b"), "23");
    for gone in ["2", "3"] {
        topic.remove_all(&Destination::Queue(gone.to_owned()));
    }
    assert_eq!(topic, Table::new(ExchangeKind::Topic, HashOn::Key));
}

#[test]
fn headers_match_as_x_match_says() {
    let (one, red) = (ArgValue::Int(1), ArgValue::text("red"));
    let how = |how: &str| ("x-match", ArgValue::text(how));
    let mut headers = table(ExchangeKind::Headers, &[]);
    for (queue, pattern) in [
        ("1", vec![("n", one.clone()), ("color", red.clone())]),
        ("2", vec![how("any"), ("n", one.clone()), ("color", red.clone())]),
        ("3", vec![how("all"), ("n", ArgValue::Void)]),
        ("4", vec![how("all"), ("n", one.clone()), ("x-n", one.clone())]),
        ("5", vec![how("all-with-x"), ("n", one.clone()), ("x-n", one.clone())]),
        ("6", vec![how("any-with-x"), ("x-n", one.clone())]),
        ("7", vec![how("any"), ("x-n", one.clone())]),
        ("8", vec![]),
    ] {
        headers.insert(&binding("", queue, &pattern));
    }
    let reached = |given: &[(&str, ArgValue)]| reached(&headers, "", &args(given)).concat();
    assert_eq!(reached(&[]), "8");
    assert_eq!(reached(&[("n", one.clone())]), "2348");
    assert_eq!(reached(&[("n", ArgValue::Int(2))]), "38", "present, and another");
    assert_eq!(reached(&[("n", ArgValue::text("1"))]), "38", "a text is no number");
    assert_eq!(reached(&[("color", red.clone()), ("n", one.clone())]), "12348");
    assert_eq!(reached(&[("x-n", one.clone())]), "68");
    assert_eq!(reached(&[("n", one.clone()), ("x-n", one)]), "234568");
}

#[test]
fn a_hash_takes_one_by_weight_and_moves_little() {
    let hash = |queues: &[(&str, &str)]| table(ExchangeKind::ConsistentHash, queues);
    let of = |table: &Table, number: usize| by_key(table, &format!("order-{number}"));
    let (before, after) = (hash(&[("1", "a"), ("1", "b"), ("2", "c")]), hash(&[("1", "a"), ("2", "c")]));
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for number in 0..4_000 {
        let queue = of(&before, number);
        if queue != "b" {
            assert_eq!(of(&after, number), queue, "who keeps its queue stays there");
        }
        *counts.entry(queue).or_default() += 1;
    }
    for (queue, share) in [("a", 1_000), ("b", 1_000), ("c", 2_000)] {
        assert!(counts[queue].abs_diff(share) < share / 8, "{counts:?}");
    }
}

#[test]
fn a_hash_may_be_of_a_header() {
    let mut table = Table::new(ExchangeKind::ConsistentHash, HashOn::Header("user".to_owned()));
    for queue in ["a", "b", "c", "d"] {
        table.insert(&binding("1", queue, &[]));
    }
    let of = |key: &str, user: i64| reached(&table, key, &args(&[("user", ArgValue::Int(user))]));
    assert!((0..50).all(|user| of("one", user) == of("two", user)));
    assert!((0..50).any(|user| of("one", user) != of("one", 0)));
}

/// As the words of the definition say it.
fn fits(pattern: &[&str], words: &[&str]) -> bool {
    match (pattern.split_first(), words.split_first()) {
        (None, None) => true,
        (None, Some(_)) => false,
        (Some((&"#", rest)), None) => fits(rest, words),
        (Some((&"#", rest)), Some((_, fewer))) => fits(rest, words) || fits(pattern, fewer),
        (Some(_), None) => false,
        (Some((first, rest)), Some((word, fewer))) => (*first == "*" || first == word) && fits(rest, fewer),
    }
}

fn words(of: &'static [&'static str]) -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(of), 1..6).prop_map(|words| words.join("."))
}

proptest! {
    #![proptest_config(crate::testing::config())]

    #[test]
    fn patterns_fit_as_defined_and_once(
        patterns in proptest::collection::btree_set(words(&["a", "b", "*", "#"]), 1..12),
        gone in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
        key in words(&["a", "b", "c", "*", "#"]),
    ) {
        let mut patterns: Vec<String> = patterns.into_iter().collect();
        let mut topic = table(ExchangeKind::Topic, &[]);
        for pattern in &patterns {
            topic.insert(&binding(pattern, pattern, &[]));
        }
        for index in gone {
            if patterns.len() > 1 {
                let pattern = patterns.swap_remove(index.index(patterns.len()));
                topic.remove(&binding(&pattern, &pattern, &[]));
            }
        }
        let key_words: Vec<&str> = key.split('.').collect();
        let fits = |pattern: &&String| fits(&pattern.split('.').collect::<Vec<_>>(), &key_words);
        let mut expected: Vec<String> = patterns.iter().filter(fits).cloned().collect();
        expected.sort();
        prop_assert_eq!(reached(&topic, &key, &Args::new()), expected);
    }
}

/// Each `#` doubles the ways that a naive search takes: it would not end.
#[test]
fn hostile_patterns_cost_no_more_than_words_times_nodes() {
    let pattern = ["#"; 60].join(".*.") + ".z";
    let topic = table(ExchangeKind::Topic, &[(&pattern, "1")]);
    assert_eq!(by_key(&topic, &["a"; 128].join(".")), "");
    assert_eq!(by_key(&topic, &[&["a"; 128].join("."), "z"].join(".")), "1");
}
