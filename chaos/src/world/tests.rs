use std::collections::BTreeMap;

use meridian_types::Incarnation;

use super::*;
use crate::fault::{Edge, Fault, NodeFault, WayFault, Ways};
use crate::history::{Answer, FaultId, Final, LossCause, WriteAnswer};

/// How long clients work.
const SIM: Micros = Micros::from_secs(6);

/// How long it heals.
const HEAL: Micros = Micros::from_secs(12);

fn scenario(shape: &str, more: &str) -> Scenario {
    let text = format!(
        r#"
        name = "test"
        about = "for tests of the world itself"
        shape = "{shape}"
        sim = "6s"
        heal = "12s"
        vnodes = 8
        {more}
        [[table]]
        name = "siblings"
        policy = "siblings"
        [[table]]
        name = "lww"
        policy = "lww"
        [workload]
        clients = 4
        keys = 6
        pause = "50ms"
        deadline = "1s"
        retry_percent = 50
        hop_percent = 10
        value_bytes = 4000
        mix = {{ get = 40, put = 15, put-seen = 20, put-expiring = 5, delete = 5, delete-seen = 5, scan = 1, put-many = 2, get-many = 2 }}
        reads = {{ ONE = 2, LOCAL_QUORUM = 4, QUORUM = 4 }}
        writes = {{ ANY = 1, ONE = 2, LOCAL_QUORUM = 4, QUORUM = 4 }}
        "#
    );
    Scenario::parse(&text).unwrap()
}

/// What came of a run.
struct Ran {
    hash: u64,
    told: Vec<Observation>,
    state: Final,
}

type Timeline = Vec<(Micros, Micros, Fault)>;

/// Runs a scenario with some faults, and lets it heal.
fn run(scenario: &Scenario, seed: u64, order: Order, faults: &Timeline) -> Ran {
    let mut world = World::with(scenario, seed, order, Trace::default()).unwrap();
    let mut edges = Vec::new();
    for ((begin, end, fault), number) in faults.iter().zip(1..) {
        edges.push((*begin, FaultId(number), fault, Edge::Begin));
        edges.push((*end, FaultId(number), fault, Edge::End));
    }
    edges.sort_by_key(|(at, id, _, edge)| (*at, *edge, *id));
    for (at, id, fault, edge) in edges {
        world.run_until(at).unwrap();
        world.apply(id, fault, seed ^ u64::from(id.0), edge);
    }
    world.run_until(SIM).unwrap();
    world.faults_over();
    world.run_until(SIM + HEAL).unwrap();
    let hash = world.with_trace(|trace| trace.hash());
    Ran { hash, told: world.take_observations(), state: world.final_state() }
}

impl Ran {
    fn count(&self, is: impl Fn(&What) -> bool) -> usize {
        self.told.iter().filter(|told| is(&told.what)).count()
    }

    /// Replicas of each vnode show the same rows under the same clock.
    fn assert_converged(&self) {
        let mut vnodes: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (node, replica) in &self.state.replicas {
            assert!(replica.sound, "node {node}");
            for (place, state) in &replica.vnodes {
                vnodes.entry(*place).or_default().push((node, state));
            }
        }
        for (place, states) in vnodes {
            let ((first, expected), rest) = states.split_first().unwrap();
            for (node, state) in rest {
                assert_eq!(state.clock, expected.clock, "{place:?} at {first} and {node}");
                // How much of a context is still needed differs between equal replicas.
                let entries = |state: &crate::history::VnodeState| -> BTreeMap<_, _> {
                    state.rows.iter().map(|(key, row)| (*key, row.entries().to_vec())).collect()
                };
                let equal = entries(state) == entries(expected);
                assert!(equal, "{place:?} at {first} and {node}");
            }
        }
    }

    fn succeeded(&self) -> usize {
        self.count(|what| match what {
            What::Returned { answer: Answer::Written(answers), .. } => {
                answers.iter().all(|answer| matches!(answer, WriteAnswer::Done { .. }))
            }
            What::Returned { answer: Answer::Read(answers), .. } => {
                answers.iter().all(|answer| answer.result.is_ok())
            }
            _ => false,
        })
    }
}

#[test]
fn a_calm_world_does_what_clients_ask_and_the_same_twice() {
    let scenario = scenario("three-node", "");
    let ran = run(&scenario, 1, Order::Seeded, &Timeline::new());
    let invoked = ran.count(|what| matches!(what, What::Invoked(_)));
    assert!(invoked > 200, "{invoked} {:?}", &ran.told[..ran.told.len().min(8)]);
    assert_eq!(ran.succeeded(), invoked);
    assert!(ran.count(|what| matches!(what, What::Minted { .. })) > 50);
    assert!(ran.count(|what| matches!(what, What::ReplicaAcked { .. })) > 100);
    assert!(ran.count(|what| matches!(what, What::Sampled(_))) > 5);
    ran.assert_converged();
    let again = run(&scenario, 1, Order::Seeded, &Timeline::new());
    assert_eq!(ran.hash, again.hash);
    assert_ne!(ran.hash, run(&scenario, 2, Order::Seeded, &Timeline::new()).hash);
    assert_ne!(ran.hash, run(&scenario, 1, Order::Fifo, &Timeline::new()).hash);
}

fn node(node: u32, what: NodeFault) -> Fault {
    Fault::Node { node: NodeId(node), what }
}

fn ways(from: &[u32], to: &[u32], what: WayFault) -> Fault {
    let nodes = |of: &[u32]| of.iter().copied().map(NodeId).collect();
    Fault::Ways { ways: Ways { from: nodes(from), to: nodes(to), both: true }, what }
}

/// Every kind of fault, on nodes that the seed decides.
fn every_fault(seed: u64) -> Vec<Fault> {
    use crate::fault::{DiskPart, Loss};
    let id = |n: u64| u32::try_from(1 + (seed + n) % 5).unwrap();
    let nodes = [
        NodeFault::Crash { loses: Loss::Unsynced },
        NodeFault::Crash { loses: Loss::Torn },
        NodeFault::Crash { loses: Loss::Nothing },
        NodeFault::Kill {},
        NodeFault::CrashAtSync { nth: 2, after: seed.is_multiple_of(2) },
        NodeFault::Stop {},
        NodeFault::Pause {},
        NodeFault::Wipe { part: DiskPart::Both },
        NodeFault::Wipe { part: DiskPart::Data },
        NodeFault::Wipe { part: DiskPart::Metadata },
        NodeFault::Restore { part: DiskPart::Data },
        NodeFault::Rot { bits: 1 },
        NodeFault::FullDisk { bytes_left: 100 },
        NodeFault::SlowDisk { by: Micros::from_millis(300) },
        NodeFault::ClockStep { by_ms: 700, returns: true },
        NodeFault::ClockDrift { ppm: 500 },
        NodeFault::Leave {},
    ];
    let mut faults: Vec<_> =
        nodes.into_iter().zip(0..).map(|(what, n)| node(id(n), what)).collect();
    let late_by = Micros::from_millis(50);
    let between = [
        WayFault::Cut {},
        WayFault::Slow { by: Micros::from_millis(80), jitter: Micros::from_millis(40) },
        WayFault::Lossy { ppm: 100_000 },
        WayFault::Narrow { bytes_per_second: 20_000 },
        WayFault::Datagrams { lost_ppm: 9_000, doubled_ppm: 9_000, late_ppm: 50_000, late_by },
    ];
    faults.extend(between.into_iter().map(|what| ways(&[1, 2, 3], &[4, 5], what)));
    faults
}

/// Three kinds of faults, one after the other and over each other.
fn some_faults(seed: u64) -> Timeline {
    let every = every_fault(seed);
    let of = |n: usize| every[(usize::try_from(seed).unwrap() * 3 + n) % every.len()].clone();
    let at = |n: usize| Micros::from_millis(2_400 + 700 * n as u64);
    (0..3).map(|n| (at(n), at(n) + Micros::from_millis(1_800), of(n))).collect()
}

#[test]
fn worlds_with_every_kind_of_fault_are_the_same_twice() {
    let (calm, mut kinds) = (scenario("two-dc-uneven", ""), BTreeMap::<String, u64>::new());
    for seed in 1..=20 {
        let faults = some_faults(seed);
        let ran = run(&calm, seed, Order::Seeded, &faults);
        let mut began = BTreeMap::new();
        for told in &ran.told {
            match &told.what {
                What::FaultBegan { fault, kind } => drop(began.insert(*fault, kind.clone())),
                What::FaultEnded { fault, effect } => {
                    *kinds.entry(began[fault].clone()).or_default() += effect;
                }
                _ => {}
            }
        }
        assert!(ran.succeeded() > 100, "seed {seed}");
        let again = run(&calm, seed, Order::Seeded, &faults);
        assert_eq!(ran.hash, again.hash, "seed {seed}: {faults:?}");
    }
    assert_eq!(kinds.len(), 18, "{kinds:?}");
    let idle: Vec<_> = kinds.iter().filter(|(_, effect)| **effect == 0).collect();
    assert!(idle.is_empty(), "{idle:?}");
}

#[test]
fn clocks_are_no_further_apart_than_the_setting_says() {
    let text = "[[fault]]\nat = \"1s\"\nnode = \"#1/#1\"\nkind = \"clock-step\"\nby_ms = -900\n";
    let stepped = Scenario::parse(&(scenario("three-node", "").to_toml().unwrap() + text));
    let skew = |scenario: &Scenario| World::new(scenario, 1).unwrap().setting().skew_ms;
    assert_eq!(skew(&stepped.unwrap()), skew(&scenario("three-node", "")) + 900);
}

#[test]
fn what_all_replicas_know_of_deletes_is_forgotten_where_they_forget() {
    for forgets in [true, false] {
        let more =
            if forgets { "[node]\nforget_every = \"500ms\"\nclock_skew = \"50ms\"" } else { "" };
        let ran = run(&scenario("three-node", more), 1, Order::Seeded, &Timeline::new());
        ran.assert_converged();
        let rows = ran.state.replicas.values().flat_map(|replica| replica.vnodes.values());
        let entries = rows.flat_map(|vnode| vnode.rows.values()).flat_map(|row| row.entries());
        let markers = entries.filter(|entry| entry.value.is_none()).count();
        assert_eq!(markers == 0, forgets, "{markers} markers are left");
    }
}

#[test]
fn a_cut_is_noticed_and_heals() {
    let (begin, end) = (Micros::from_secs(1), Micros::from_secs(4));
    let cut = vec![(begin, end, ways(&[1, 2, 3], &[4, 5], WayFault::Cut {}))];
    let ran = run(&scenario("two-dc-uneven", ""), 3, Order::Seeded, &cut);
    let changed = |to: bool| ran.count(|w| matches!(w, What::LinkChanged { up, .. } if *up == to));
    assert!(changed(false) >= 12 && changed(true) >= 12);
    ran.assert_converged();
}

#[test]
fn a_power_cut_takes_exactly_the_unsynced_tail() {
    let id = NodeId(1);
    let mut lost = 0;
    for seed in 1..=5 {
        let mut world = World::new(&scenario("three-node", ""), seed).unwrap();
        let clocks = |world: &World| {
            let node = &world.machines[&id].up().unwrap().node;
            machine::clocks_of(node, id, &world.cluster)
        };
        world.run_until(Micros::from_secs(3)).unwrap();
        let before = world.machines.get_mut(&id).unwrap().up_mut().unwrap();
        before.log.driver.sync().unwrap();
        before.log.sync_at = None;
        let first = before.node.store().actor().incarnation;
        let synced = clocks(&world);
        let syncs = world.machines[&id].disk.data().sync_points();
        // Less than the policy's interval.
        world.run_until(Micros::from_millis(3_060)).unwrap();
        let had = clocks(&world);
        if world.machines[&id].disk.data().sync_points() > syncs {
            // A flush has synced more.
            continue;
        }
        drop(world.take_observations());
        let crash = node(1, NodeFault::Crash { loses: crate::fault::Loss::Unsynced });
        world.apply(FaultId(1), &crash, 0, Edge::Begin);
        world.run_until(Micros::from_millis(3_500)).unwrap();
        world.apply(FaultId(1), &crash, 0, Edge::End);
        world.run_until(Micros::from_millis(3_600)).unwrap();
        let machine = &world.machines[&id];
        assert!(machine.found == synced, "seed {seed}");
        assert_ne!(machine.up().unwrap().node.store().actor().incarnation, first);
        let mut told = 0;
        for told_of in world.take_observations() {
            match told_of.what {
                What::Lost(loss) => {
                    let place = (loss.keyspace, loss.vnode);
                    assert_eq!(loss.dots, had[&place].beyond(&synced[&place]));
                    assert_eq!(loss.cause, LossCause::Crash);
                    assert_eq!(loss.since, Micros::from_millis(3_060));
                    assert!(loss.gone.is_subset(&loss.dots));
                    told += 1;
                }
                What::Started { node, incarnation } => {
                    assert!(node == id && incarnation != first && incarnation != Incarnation(0));
                }
                _ => {}
            }
        }
        let less = had.iter().filter(|(place, clock)| *clock != &synced[place]).count();
        assert_eq!(told, less, "each vnode that lost something is told of");
        lost += told;
    }
    assert!(lost > 0, "nothing was at risk");
}
