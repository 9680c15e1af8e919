use super::*;
use crate::fault::{Loss, NodeFault, WayFault};

/// The least that a scenario says, and lines that a test adds to its end.
fn small(more: &str) -> String {
    let text = r#"
        name = "small"
        about = "as little as can be"
        shape = "three-dc"
        sim = "5s"
        heal = "10s"
        [[table]]
        name = "t"
        [workload]
        clients = 1
        keys = 1
        pause = "10ms"
        deadline = "1s"
        mix = { get = 1 }
    "#;
    format!("{text}{more}")
}

fn refused(text: &str) -> String {
    Scenario::parse(text).unwrap_err().to_string()
}

#[test]
fn every_shipped_scenario_can_be_read_and_written() {
    for (scenario, name) in shipped().zip(names()) {
        let scenario = scenario.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(scenario.name, name, "a scenario has the name of its file");
        let written = scenario.to_toml().unwrap();
        assert_eq!(Scenario::parse(&written).unwrap(), scenario, "{written}");
    }
}

#[test]
fn the_shipped_scenarios_are_the_files_of_the_folder() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let stem = |name: String| name.strip_suffix(".toml").map(str::to_owned);
    let files = entries.map(|name| stem(name.into_string().unwrap()));
    let mut files: Vec<_> = files.map(|stem| stem.expect("a scenario")).collect();
    files.sort();
    assert_eq!(files, names().collect::<Vec<_>>());
}

#[test]
fn an_unknown_name_is_refused_with_the_known_ones() {
    let refused = named("clam").unwrap_err().to_string();
    assert!(refused.contains("no scenario `clam`") && refused.contains("calm"), "{refused}");
}

#[test]
fn unknown_keys_are_refused_everywhere() {
    Scenario::parse(&small("")).unwrap();
    for (more, key) in [
        ("retries = 3", "retries"),
        ("[sync]\npolicy = \"every\"\ninterval = \"1s\"\nwrites = 1\nbytes = 3", "bytes"),
        ("[sync]\npolicy = \"always\"\nwrites = 1", "writes"),
        ("[node]\nhint_widow = \"1s\"", "hint_widow"),
        ("[expect]\nexcused = 1", "excused"),
        ("[nemesis]\nfaults = 1\nsound = \"1s\"", "sound"),
        ("[[table]]\nname = \"u\"\nttl = \"1s\"", "ttl"),
        ("[[fault]]\nat = \"1s\"\nnode = \"us-1\"\nkind = \"kill\"\nloses = \"torn\"", "loses"),
        ("[[fault]]\nat = \"1s\"\nnode = \"us-1\"\nkind = \"crash\"\nlose = \"torn\"", "lose"),
        ("[[fault]]\nat = \"1s\"\nfrom = \"us\"\nto = \"*\"\nkind = \"cut\"\nwhy = 1", "why"),
    ] {
        let refused = refused(&small(more));
        assert!(refused.contains("unknown field") && refused.contains(key), "{more}: {refused}");
    }
    let refused = refused(&small("[workload.writes]\nSOME = 1"));
    assert!(refused.contains("unknown variant"), "{refused}");
}

#[test]
fn values_that_cannot_be_are_refused_by_name() {
    let line = |rest: &str| small(&format!("[[fault]]\n{rest}"));
    for (text, key) in [
        (line("at = \"6s\"\nnode = \"us-1\"\nkind = \"kill\""), "fault.at"),
        (line("at = \"1s\"\nnode = \"mars-1\"\nkind = \"kill\""), "fault.node"),
        (line("at = \"1s\"\nkind = \"kill\""), "fault.node"),
        (line("at = \"1s\"\nnode = \"us-1\"\nkind = \"cut\""), "fault.from"),
        (line("at = \"1s\"\nnode = \"us-1\"\nto = \"us\"\nkind = \"kill\""), "from, to"),
        (line("at = \"1s\"\nfrom = \"us\"\nto = \"us-2\"\nkind = \"cut\""), "fault.to"),
        (line("at = \"1s\"\nnode = \"*/#4\"\nkind = \"kill\""), "fault.node"),
        (line("at = \"1s\"\nnode = \"us-1\"\ntimes = 3\nkind = \"kill\""), "fault.every"),
        (line("at = \"1s\"\nnode = \"us-1\"\nkind = \"explode\""), "explode"),
        (small("[nemesis]\nfaults = 1\nkinds = [\"explode\"]"), "nemesis.kinds"),
        (small("[nemesis]\nfaults = 1\nlongest = \"6s\""), "nemesis.shortest"),
        (small("[[table]]\nname = \"t\""), "table.name"),
        (small("").replace("get = 1", "get = 0"), "workload.mix"),
        (small("reads = { ANY = 1 }"), "workload.reads"),
        (small("writes = { SERIAL = 1 }"), "workload.writes"),
        (small("").replace("three-dc", "four-dc"), "four-dc"),
        (small("").replace("sim = \"5s\"", "sim = \"0s\""), "`sim`"),
    ] {
        let refused = refused(&text);
        assert!(refused.contains(key), "{key}: {refused}");
    }
    let long = format!("{}#{}", small(""), "x".repeat(Scenario::MAX_BYTES));
    assert!(matches!(Scenario::parse(&long), Err(ScenarioError::TooLong { .. })));
}

#[test]
fn every_kind_of_fault_reads_back_as_it_was_written() {
    let kinds = [
        "crash\"\nloses = \"torn",
        "kill",
        "crash-at-sync\"\nafter = true\nnth = 2\nx=\"",
        "stop",
        "leave",
        "pause",
        "wipe\"\npart = \"both",
        "restore\"\npart = \"metadata",
    ];
    let more = [
        ("rot", "bits = 3"),
        ("full-disk", "bytes_left = 100"),
        ("slow-disk", "by = \"2s\""),
        ("clock-step", "by_ms = -50000\nreturns = true"),
        ("clock-drift", "ppm = -200"),
        ("crash-at-sync", "nth = 2\nafter = true"),
    ];
    let mut lines: Vec<_> = kinds
        .iter()
        .filter(|kind| !kind.contains("x="))
        .map(|kind| format!("node = \"#1/#2\"\nkind = \"{kind}\""))
        .collect();
    lines.extend(more.map(|(kind, rest)| format!("node = \"us\"\nkind = \"{kind}\"\n{rest}")));
    let ways = [
        ("cut", ""),
        ("slow", "by = \"400ms\"\njitter = \"300ms\""),
        ("lossy", "ppm = 50000"),
        ("narrow", "bytes_per_second = 1000"),
        ("datagrams", "lost_ppm = 1\ndoubled_ppm = 2\nlate_ppm = 3\nlate_by = \"1s\""),
    ];
    lines.extend(
        ways.map(|(kind, rest)| format!("from = \"#1\"\nto = \"*\"\nkind = \"{kind}\"\n{rest}")),
    );
    let text: String = lines
        .iter()
        .map(|line| format!("[[fault]]\nat = \"1s\"\nfor = \"2s\"\n{line}\n"))
        .collect();
    let scenario = Scenario::parse(&small(&text)).unwrap();
    let known: BTreeSet<_> = FaultKind::names().collect();
    let read: BTreeSet<_> = scenario.faults.iter().map(|line| line.kind.name()).collect();
    assert_eq!(read, known);
    let written = scenario.to_toml().unwrap();
    assert_eq!(Scenario::parse(&written).unwrap(), scenario, "{written}");
    let torn = FaultKind::Node(NodeFault::Crash { loses: Loss::Torn });
    assert_eq!(scenario.faults[0].kind, torn);
    let slow = WayFault::Slow { by: Micros::from_millis(400), jitter: Micros::from_millis(300) };
    assert!(scenario.faults.iter().any(|line| line.kind == FaultKind::Ways(slow.clone())));
}
