use std::time::Duration;

use meridian_types::{DcId, NodeId, Partitioner};
use proptest::prelude::*;

use super::*;

const SMALL: &str = r#"
name = "small"
about = "two nodes here, one there"

[replication]
here = 2

[[datacenters]]
name = "here"
nodes = [{ name = "here-1", rack = "a" }, { name = "here-2", rack = "b", capacity = 2.5 }]

[[datacenters]]
name = "there"
nodes = [{ name = "there-1", rack = "a" }]

[[links]]
between = ["there", "here"]
latency_ms = 1.5
jitter_ms = 0.5
loss_percent = 0.1
"#;

/// Parses `SMALL` with one text replaced by another, and returns the error.
fn error(from: &str, to: &str) -> String {
    assert!(SMALL.contains(from), "`{from}` is not in the file");
    Shape::parse(&SMALL.replace(from, to)).unwrap_err().to_string()
}

#[test]
fn a_file_says_what_it_says() {
    let shape = Shape::parse(SMALL).unwrap();
    let topology = shape.topology();
    assert_eq!((shape.name(), shape.about()), ("small", "two nodes here, one there"));
    assert_eq!(topology.partitioner(), Partitioner::SlotMurmur3);
    assert_eq!(topology.vnode_count().get(), 1_024);
    assert_eq!(topology.dc_id("there"), Some(DcId(1)));
    let node = topology.node_named("here-2").unwrap();
    assert_eq!((node.id, node.dc, node.rack.as_str()), (NodeId(2), DcId(0), "b"));
    assert_eq!(node.capacity.thousandths(), 2_500);
    assert_eq!(topology.node(NodeId(3)).map(|node| node.dc), Some(DcId(1)));
    let link = topology.link(DcId(0), DcId(1)).unwrap();
    assert_eq!(link, topology.link(DcId(1), DcId(0)).unwrap());
    assert_eq!(link.latency, Duration::from_micros(1_500));
    assert_eq!(link.jitter, Duration::from_micros(500));
    assert!((link.loss_percent - 0.1).abs() < 1e-9);
    assert_eq!(shape.replication().iter().collect::<Vec<_>>(), [(DcId(0), 2)]);
}

#[test]
fn every_shipped_shape_is_valid_and_named_as_its_file() {
    for name in Shape::names() {
        let shape = Shape::named(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(shape.name(), name);
        let topology = shape.topology();
        let pairs = topology.dcs().len() * (topology.dcs().len() - 1) / 2;
        assert_eq!(topology.links().count(), pairs, "{name}: each pair has a link");
        assert!(shape.replication().check(topology).is_ok());
    }
    assert!(Shape::names().is_sorted());
}

#[test]
fn the_default_shape_is_three_continents() {
    let shape = Shape::named("three-dc").unwrap();
    let topology = shape.topology();
    assert_eq!(topology.vnode_count().get(), 4_096);
    let names: Vec<&str> = topology.nodes().iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["us-1", "us-2", "us-3", "eu-1", "eu-2", "eu-3", "ap-1", "ap-2", "ap-3"]);
    assert_eq!(topology.nodes().first().map(|node| node.id), Some(NodeId(1)));
    let [us, eu, ap] = ["us", "eu", "ap"].map(|name| topology.dc_id(name).unwrap());
    assert_eq!(topology.nearest_dcs(us), [eu, ap]);
    assert_eq!(topology.nearest_dcs(ap), [us, eu]);
    assert_eq!(shape.replication().total(), 9);
}

#[test]
fn an_unknown_name_lists_the_known_ones() {
    let error = Shape::named("four-dc").unwrap_err().to_string();
    for name in Shape::names() {
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn errors_name_the_key_and_what_is_allowed() {
    let cases = [
        (
            "name = \"small\"",
            "name = \"Big One\"",
            "`name` is \"Big One\"; allowed: 1 to 48 of a-z",
        ),
        ("here = 2\n", "here = 3\n", "`replication.here` is 3; allowed: 1 to 2"),
        ("here = 2\n", "here = 0\n", "`replication.here` is 0; allowed: 1 to 16"),
        ("here = 2\n", "here = -1\n", "`replication.here` is -1; allowed: 1 to 16"),
        ("here = 2\n", "mars = 1\n", "`replication` is mars; allowed: here, there"),
        ("here = 2\n", "\n", "`replication` is empty; allowed: `dc = replicas` for some of here"),
        (
            "capacity = 2.5",
            "capacity = 0",
            "`datacenters.here.nodes.here-2.capacity` is 0; allowed: 0.001 to 1000",
        ),
        ("capacity = 2.5", "capacity = nan", "capacity` is NaN; allowed"),
        (
            "\"there-1\"",
            "\"here-1\"",
            "`datacenters.there.nodes.name` is here-1; allowed: each node once",
        ),
        (
            "name = \"there\"",
            "name = \"here\"",
            "`datacenters.name` is here; allowed: each datacenter once",
        ),
        (
            "[{ name = \"there-1\", rack = \"a\" }]",
            "[]",
            "`datacenters.there.nodes` is an empty list",
        ),
        (
            "latency_ms = 1.5",
            "latency_ms = -1",
            "`links.there-here.latency_ms` is -1; allowed: 0 to 10000",
        ),
        ("jitter_ms = 0.5", "jitter_ms = 2", "`links.there-here.jitter_ms` is 2; allowed: at most"),
        (
            "loss_percent = 0.1",
            "loss_percent = 101",
            "`links.there-here.loss_percent` is 101; allowed: 0 to 100",
        ),
        (
            "\"there\", \"here\"",
            "\"there\", \"mars\"",
            "`links.between` is mars; allowed: here, there",
        ),
        ("\"there\", \"here\"", "\"here\", \"here\"", "`links.between` is a link joins datacenter"),
    ];
    for (from, to, expected) in cases {
        let error = error(from, to);
        assert!(error.contains(expected), "{from} -> {to}: {error}");
    }
    for per_node in ["0", "4097", "-5"] {
        let error = error("about", &format!("vnodes_per_node = {per_node}\nabout"));
        assert!(error.contains("`vnodes_per_node` is"), "{error}");
        assert!(error.contains("allowed: 1 to 4096"), "{error}");
    }
}

#[test]
fn unknown_keys_and_wrong_types_are_shown_with_their_line() {
    let unknown = error("rack = \"b\"", "rak = \"b\"");
    assert!(unknown.contains("unknown field `rak`, expected one of `name`, `rack`"), "{unknown}");
    assert!(unknown.contains("line 10"), "{unknown}");
    let partitioner = error("about", "partitioner = \"random\"\nabout");
    assert!(partitioner.contains("`slot-murmur3`, `murmur3`, `md5`"), "{partitioner}");
    assert!(error("latency_ms = 1.5", "latency_ms = \"fast\"").contains("latency_ms"));
}

#[test]
fn a_file_that_is_too_long_is_not_read() {
    let long = format!("{SMALL}#{}", "x".repeat(Shape::MAX_BYTES));
    assert_eq!(Shape::parse(&long), Err(ShapeError::TooLong { bytes: long.len() }));
}

proptest! {
    #[test]
    fn any_text_gives_a_shape_or_an_error(text: String) {
        let _ = Shape::parse(&text);
    }

    #[test]
    fn a_damaged_file_gives_a_shape_or_an_error(
        at in 0..SMALL.len(),
        length in 0usize..40,
        put in "[ -~\n]{0,8}",
    ) {
        let mut text = SMALL.to_owned();
        text.replace_range(at..(at + length).min(SMALL.len()), &put);
        if let Ok(shape) = Shape::parse(&text) {
            prop_assert!(shape.replication().check(shape.topology()).is_ok());
        }
    }
}
