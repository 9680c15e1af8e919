//! Faults by chance, within a budget.

use meridian_topology::Topology;
use meridian_types::NodeId;

use super::Planned;
use super::budget::Budget;
use crate::fault::{DiskPart, Fault, Loss, NodeFault, WayFault, Ways};
use crate::history::FaultId;
use crate::scenario::{FaultKind, NemesisBudget, Scenario};
use crate::sim::{Draw, Micros};

/// How often a fault is drawn again that the budget has no room for, before it is given up.
const TRIES: u32 = 20;

/// What a power cut leaves, as often as it stands here.
const LOSSES: [Loss; 5] =
    [Loss::Unsynced, Loss::Unsynced, Loss::Unsynced, Loss::Torn, Loss::Nothing];

/// How far a wall clock jumps at most: far below the stamps that a replica refuses.
const MOST_STEP_MS: u64 = 5_000;

/// How fast a wall clock is or slow at most: twenty times a bad quartz.
const MOST_DRIFT_PPM: u64 = 2_000;

/// Draws the faults of a scenario beside those that are planned already.
pub(super) fn draw(
    scenario: &Scenario,
    nemesis: &NemesisBudget,
    draw: &mut Draw,
    planned: &mut Vec<Planned>,
) {
    // A node that leaves for good is for scenarios that ask for it.
    let unasked = |kind: &&str| nemesis.kinds.is_empty() && *kind != "leave";
    let kinds: Vec<_> =
        FaultKind::names().filter(|kind| nemesis.kinds.contains(*kind) || unasked(kind)).collect();
    let mut budget = Budget::new(&scenario.shape, nemesis, planned);
    for _ in 0..nemesis.faults {
        let fits = (0..TRIES)
            .filter_map(|_| one(scenario, nemesis, &kinds, draw))
            .find(|candidate| budget.has_room_for(candidate));
        if let Some(fits) = fits {
            budget.take(fits.clone());
            planned.push(fits);
        }
    }
}

/// One fault; `None` where there is nobody for it.
fn one(
    scenario: &Scenario,
    nemesis: &NemesisBudget,
    kinds: &[&'static str],
    draw: &mut Draw,
) -> Option<Planned> {
    let topology = scenario.shape.topology();
    let kind = *draw.pick(kinds)?;
    // Whole milliseconds are easier to read.
    let shortest = nemesis.shortest.to_millis().max(1);
    let lasts = Micros::from_millis(window(shortest, nemesis.longest.to_millis(), draw));
    let room = (scenario.sim - lasts - nemesis.after).to_millis().max(1);
    let at = nemesis.after + Micros::from_millis(draw.below(room));
    let chance = draw.bits();
    let node = draw.pick(topology.nodes())?.id;
    let fault = match node_fault(kind, draw) {
        Some(what) => Fault::Node { node, what },
        None => {
            let what = way_fault(kind, draw)?;
            Fault::Ways { ways: ways(topology, node, draw)?, what }
        }
    };
    Some(Planned { id: FaultId(0), at, until: at + lasts, fault, chance })
}

/// A length between two, short ones as likely as long ones: each doubling has the same chance.
fn window(shortest: u64, longest: u64, draw: &mut Draw) -> u64 {
    let doublings = (longest / shortest.max(1)).max(1).ilog2();
    let least = shortest << draw.below(u64::from(doublings) + 1);
    draw.between(least, (least * 2).min(longest))
}

fn node_fault(kind: &str, draw: &mut Draw) -> Option<NodeFault> {
    let part = |draw: &mut Draw| {
        draw.pick(&[DiskPart::Both, DiskPart::Both, DiskPart::Data, DiskPart::Metadata]).copied()
    };
    Some(match kind {
        "crash" => NodeFault::Crash { loses: draw.pick(&LOSSES).copied()? },
        "kill" => NodeFault::Kill {},
        "crash-at-sync" => {
            let nth = u32::try_from(draw.between(1, 40)).unwrap_or(1);
            NodeFault::CrashAtSync { nth, after: draw.below(2) == 1 }
        }
        "stop" => NodeFault::Stop {},
        "leave" => NodeFault::Leave {},
        "pause" => NodeFault::Pause {},
        "wipe" => NodeFault::Wipe { part: part(draw)? },
        "restore" => NodeFault::Restore { part: part(draw)? },
        "rot" => NodeFault::Rot { bits: u32::try_from(draw.between(1, 4)).unwrap_or(1) },
        "full-disk" => NodeFault::FullDisk { bytes_left: draw.below(32 << 10) },
        "slow-disk" => NodeFault::SlowDisk { by: Micros::from_millis(draw.between(10, 2_000)) },
        "clock-step" => {
            let by_ms = signed(draw.between(1, MOST_STEP_MS), draw);
            NodeFault::ClockStep { by_ms, returns: draw.below(2) == 1 }
        }
        "clock-drift" => {
            NodeFault::ClockDrift { ppm: signed(draw.between(1, MOST_DRIFT_PPM), draw) }
        }
        _ => return None,
    })
}

fn signed(number: u64, draw: &mut Draw) -> i64 {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    if draw.below(2) == 1 { -number } else { number }
}

fn way_fault(kind: &str, draw: &mut Draw) -> Option<WayFault> {
    let ppm = |draw: &mut Draw, most| u32::try_from(draw.between(1_000, most)).unwrap_or(0);
    Some(match kind {
        "cut" => WayFault::Cut {},
        "slow" => {
            let by = draw.between(5, 400);
            let jitter = Micros::from_millis(draw.below(by));
            WayFault::Slow { by: Micros::from_millis(by), jitter }
        }
        "lossy" => WayFault::Lossy { ppm: ppm(draw, 200_000) },
        "narrow" => WayFault::Narrow { bytes_per_second: draw.between(20_000, 1_000_000) },
        "datagrams" => WayFault::Datagrams {
            lost_ppm: ppm(draw, 50_000),
            doubled_ppm: ppm(draw, 50_000),
            late_ppm: ppm(draw, 100_000),
            late_by: Micros::from_millis(draw.between(1, 500)),
        },
        _ => return None,
    })
}

/// Ways from a node or from its datacenter: to one of the others, or to all of them.
fn ways(topology: &Topology, node: NodeId, draw: &mut Draw) -> Option<Ways> {
    let home = topology.dc_of(node)?;
    let others: Vec<_> =
        topology.nodes().iter().map(|info| info.id).filter(|&other| other != node).collect();
    let far: Vec<_> =
        others.iter().copied().filter(|&other| topology.dc_of(other) != Some(home)).collect();
    // One way in three: the direction in which nothing passes is easily forgotten by code.
    let (dc_wide, single, both) = (draw.below(2) == 1, draw.below(2) == 1, draw.below(3) > 0);
    let (at, away) = (draw.bits(), draw.bits());
    let picked = |of: &[NodeId], bits: u64| {
        let at = bits.checked_rem(of.len() as u64)?;
        of.get(usize::try_from(at).ok()?).copied()
    };
    let (from, to) = if dc_wide && !far.is_empty() {
        let from = topology.nodes_in(home).map(|info| info.id).collect();
        let other = picked(&far, at).and_then(|node| topology.dc_of(node))?;
        let one: Vec<_> = topology.nodes_in(other).map(|info| info.id).collect();
        (from, if single { one } else { far })
    } else {
        (vec![node], if single { vec![picked(&others, away)?] } else { others })
    };
    if to.is_empty() {
        return None;
    }
    Some(Ways { from, to, both })
}
