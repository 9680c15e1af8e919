use std::collections::BTreeSet;

use meridian_topology::Shape;
use meridian_types::NodeId;

use super::*;
use crate::fault::{NodeFault, WayFault};
use crate::scenario;

const SEEDS: std::ops::Range<u64> = 0..200;

fn mixed() -> Scenario {
    scenario::named("mixed").unwrap()
}

fn with_faults(lines: &str) -> Scenario {
    let text = r#"
        name = "lines"
        about = "a timeline"
        shape = "three-dc"
        sim = "10s"
        heal = "10s"
        table = [{ name = "t" }]
        [workload]
        clients = 1
        keys = 1
        pause = "10ms"
        deadline = "1s"
        mix = { get = 1 }
    "#;
    Scenario::parse(&format!("{text}\n{lines}")).unwrap()
}

fn drawn(scenario: &Scenario, seed: u64) -> Schedule {
    Schedule::drawn(scenario, seed).unwrap()
}

#[test]
fn a_seed_draws_the_same_and_another_something_else() {
    let scenario = mixed();
    let all: Vec<_> = SEEDS.map(|seed| drawn(&scenario, seed)).collect();
    for (seed, schedule) in SEEDS.zip(&all) {
        assert_eq!(&drawn(&scenario, seed), schedule);
    }
    let texts: BTreeSet<_> =
        all.iter().map(|schedule| schedule.text(scenario.shape.topology())).collect();
    assert_eq!(texts.len(), all.len());
}

#[test]
fn no_fault_of_chance_begins_before_it_may() {
    let scenario = mixed();
    let after = scenario.nemesis.as_ref().unwrap().after;
    assert!(after > Micros::ZERO);
    for schedule in SEEDS.map(|seed| drawn(&scenario, seed)) {
        assert!(schedule.planned().iter().all(|p| p.at >= after && p.until <= scenario.sim));
    }
}

#[test]
fn every_kind_is_drawn_and_most_of_the_faults_find_room() {
    let scenario = mixed();
    let all: Vec<_> = SEEDS.map(|seed| drawn(&scenario, seed)).collect();
    let kinds: BTreeSet<_> =
        all.iter().flat_map(Schedule::planned).map(|planned| planned.fault.kind()).collect();
    let expected: BTreeSet<_> = FaultKind::names().filter(|kind| *kind != "leave").collect();
    assert_eq!(kinds, expected);
    let total: usize = all.iter().map(|schedule| schedule.planned().len()).sum();
    let ordered = scenario.nemesis.unwrap().faults as usize * all.len();
    assert!(total * 10 >= ordered * 8, "{total} of {ordered}");
}

/// How many nodes of each datacenter a schedule hurts at one time, by a count of its own.
fn most_hurt_at_once(scenario: &Scenario, schedule: &Schedule) -> usize {
    let topology = scenario.shape.topology();
    let sound_after = scenario.nemesis.as_ref().unwrap().sound_after;
    let mut most = 0;
    for now in (0..20_000).step_by(50).map(Micros::from_millis) {
        let hurt = |node: NodeId| {
            schedule.planned().iter().any(|planned| {
                let after = |extra| planned.at <= now && now < planned.until + extra;
                match &planned.fault {
                    Fault::Node { node: other, what } if *other == node => match what {
                        NodeFault::ClockStep { .. } | NodeFault::ClockDrift { .. } => false,
                        NodeFault::Rot { .. } => planned.at <= now,
                        NodeFault::Restore { .. } => planned.until <= now && after(sound_after),
                        NodeFault::Wipe { .. } | NodeFault::Crash { .. } => after(sound_after),
                        _ => after(Micros::ZERO),
                    },
                    Fault::Ways { ways, what: WayFault::Cut {} } => {
                        ways.from == [node] && after(Micros::ZERO)
                    }
                    _ => false,
                }
            })
        };
        let in_dc = topology
            .dcs()
            .iter()
            .map(|dc| topology.nodes_in(dc.id).filter(|node| hurt(node.id)).count());
        most = most.max(in_dc.max().unwrap_or(0));
    }
    most
}

#[test]
fn no_more_than_a_minority_is_hurt_at_one_time() {
    let scenario = mixed();
    let most = SEEDS.map(|seed| most_hurt_at_once(&scenario, &drawn(&scenario, seed)));
    assert_eq!(most.max(), Some(1));
    let mut daring = mixed();
    daring.nemesis.as_mut().unwrap().hurt_per_dc = Some(3);
    let most = SEEDS.map(|seed| most_hurt_at_once(&daring, &drawn(&daring, seed)));
    assert!(most.max() > Some(1), "the count above sees what a larger budget allows");
}

#[test]
fn what_is_ordered_takes_from_what_chance_may_do() {
    let nemesis = "[nemesis]\nfaults = 30\nlongest = \"1s\"\nkinds = [\"crash\"]\n";
    let left = "[[fault]]\nat = \"0s\"\nnode = \"*/#1\"\nkind = \"leave\"\n";
    for seed in SEEDS {
        let schedule = drawn(&with_faults(&format!("{left}{nemesis}")), seed);
        let crashes = schedule.planned().iter().filter(|planned| planned.fault.kind() == "crash");
        let gone: Vec<_> = schedule.planned().iter().filter_map(node_that_leaves).collect();
        assert_eq!(gone.len(), 3);
        for crash in crashes {
            let Fault::Node { node, .. } = &crash.fault else { panic!("{crash:?}") };
            assert!(gone.contains(node), "seed {seed}: a second node of its datacenter");
        }
    }
}

fn node_that_leaves(planned: &Planned) -> Option<NodeId> {
    match &planned.fault {
        Fault::Node { node, what: NodeFault::Leave {} } => Some(*node),
        _ => None,
    }
}

#[test]
fn places_by_rank_are_the_same_nodes_throughout_a_run_and_differ_between_runs() {
    let line = |node| format!("[[fault]]\nat = \"1s\"\nnode = \"{node}\"\nkind = \"kill\"\n");
    let scenario = with_faults(&["#1/#1", "#1/#1", "#1/#2", "#2/#1"].map(line).concat());
    let mut hit = BTreeSet::new();
    for seed in SEEDS {
        let schedule = drawn(&scenario, seed);
        let nodes: Vec<_> = schedule
            .planned()
            .iter()
            .map(|planned| match &planned.fault {
                Fault::Node { node, .. } => *node,
                Fault::Ways { .. } => panic!("{planned:?}"),
            })
            .collect();
        let dc = |at: usize| scenario.shape.topology().dc_of(nodes[at]);
        assert_eq!(nodes[0], nodes[1]);
        assert!(nodes[0] != nodes[2] && dc(0) == dc(2) && dc(0) != dc(3));
        hit.insert(nodes[0]);
    }
    assert_eq!(hit.len(), 9, "every node comes first somewhere");
}

#[test]
fn a_line_repeats_and_a_place_of_several_nodes_is_as_many_faults() {
    let scenario = with_faults(
        r#"
        [[fault]]
        at = "1s"
        for = "100ms"
        times = 4
        every = "3s"
        late = "500ms"
        node = "us"
        kind = "crash"
        "#,
    );
    for seed in SEEDS {
        let schedule = drawn(&scenario, seed);
        // The fourth time is beyond the end of the scenario.
        assert_eq!(schedule.planned().len(), 9);
        for (at, planned) in schedule.planned().iter().enumerate() {
            let planned_for = Micros::from_secs(1 + 3 * (at as u64 / 3));
            assert!(planned.at >= planned_for && planned.at - planned_for <= Micros(500_000));
            assert_eq!(planned.until, planned.at + Micros::from_millis(100));
            assert_eq!(planned.id, FaultId(u32::try_from(at).unwrap() + 1));
        }
    }
}

#[test]
fn leaving_a_fault_out_changes_no_other() {
    let schedule = drawn(&mixed(), 7);
    let kept: Kept = "2,4:1ms".parse().unwrap();
    let fewer = schedule.only(Some(&kept), Micros::from_secs(15));
    let [second, fourth] = fewer.planned() else { panic!("{fewer:?}") };
    assert_eq!(second, &schedule.planned()[1]);
    let whole = &schedule.planned()[3];
    assert_eq!(fourth.until, whole.at + Micros(1_000));
    assert_eq!(&Planned { until: whole.until, ..fourth.clone() }, whole);
    let none = schedule.only(Some(&"none".parse().unwrap()), Micros::from_secs(15));
    assert!(none.planned().is_empty());
    let half = schedule.only(None, Micros::from_secs(5));
    assert!(half.planned().iter().all(|planned| planned.until <= Micros::from_secs(5)));
    assert!(half.planned().len() < schedule.planned().len());
}

#[test]
fn what_ends_comes_before_what_begins_and_no_fault_ends_before_it_begins() {
    let line = |at, lasts| {
        format!("[[fault]]\nat = \"{at}\"\nfor = \"{lasts}\"\nnode = \"us-1\"\nkind = \"kill\"\n")
    };
    let lines = [line("1s", "2s"), line("3s", "1s"), line("3s", "0s")].concat();
    let schedule = drawn(&with_faults(&lines), 1);
    let edges: Vec<_> = schedule
        .edges()
        .into_iter()
        .map(|(at, edge, planned)| (at.to_millis() / 1_000, edge, planned.id.0))
        .collect();
    let expected = [
        (1, Edge::Begin, 1),
        (3, Edge::End, 1),
        (3, Edge::Begin, 2),
        (3, Edge::Begin, 3),
        (3, Edge::End, 3),
        (4, Edge::End, 2),
    ];
    assert_eq!(edges, expected);
}

#[test]
fn what_is_kept_reads_back_as_it_was_written() {
    for text in ["none", "3", "3,17:500ms", "1:2s,2"] {
        assert_eq!(text.parse::<Kept>().unwrap().to_string(), text);
    }
    for text in ["", "x", "3,", "3:", "3:fast", "-1"] {
        assert!(text.parse::<Kept>().is_err(), "{text}");
    }
}

#[test]
fn a_schedule_is_told_line_by_line() {
    let scenario = with_faults(
        r#"
        [[fault]]
        at = "1500ms"
        for = "2s"
        node = "us-2"
        kind = "crash"
        [[fault]]
        at = "2s"
        for = "3s"
        from = "eu"
        to = "*"
        one_way = true
        kind = "cut"
        "#,
    );
    let shape = Shape::named("three-dc").unwrap();
    let expected = "   1    1500ms .. 3500ms    us-2 crash (loses what is not synced)\n   \
                    2        2s .. 5s        eu -> us,ap cut\n";
    assert_eq!(drawn(&scenario, 1).text(shape.topology()), expected);
}

#[cfg(meridian_mutations)]
#[test]
fn without_its_budget_chance_hurts_more_than_a_minority() {
    use meridian_types::{Mutation, leave_out};

    let scenario = mixed();
    leave_out(Some(Mutation::BudgetIgnored));
    let most = SEEDS.map(|seed| most_hurt_at_once(&scenario, &drawn(&scenario, seed))).max();
    leave_out(None);
    assert!(most > Some(1), "{most:?}");
}
