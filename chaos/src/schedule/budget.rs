//! How much may be wrong at one time.
//!
//! A node is *hurt* from its fault until it is as good as the others again: while it is down, cut off
//! or slow, and after it lost data for a time that is enough to get it back. All of these count
//! together, because each takes one replica from a quorum. A datacenter is *apart* while it is cut
//! from others.

use std::collections::BTreeSet;

use meridian_topology::{Shape, Topology};
use meridian_types::{DcId, Mutation, NodeId, broken};

use super::Planned;
use crate::fault::{Fault, NodeFault, WayFault, Ways};
use crate::scenario::NemesisBudget;
use crate::sim::Micros;

/// How long a node counts as hurt after it is back without a loss: links are dialed again, peers
/// notice that it lives, and hints arrive.
const BACK_AFTER: Micros = Micros::from_secs(2);

/// The end of times.
const EVER: Micros = Micros(u64::MAX);

/// What a fault takes away for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Harm {
    from: Micros,
    until: Micros,
    nodes: BTreeSet<NodeId>,
    apart: BTreeSet<DcId>,
}

/// What may be hurt at one time, and what is planned so far.
pub(super) struct Budget<'a> {
    shape: &'a Shape,
    hurt_per_dc: Option<u32>,
    sound_after: Micros,
    harms: Vec<Harm>,
    taken: Vec<Planned>,
}

impl<'a> Budget<'a> {
    pub(super) fn new(shape: &'a Shape, budget: &NemesisBudget, planned: &[Planned]) -> Self {
        let NemesisBudget { hurt_per_dc, sound_after, .. } = *budget;
        let mut begun =
            Self { shape, hurt_per_dc, sound_after, harms: Vec::new(), taken: Vec::new() };
        for planned in planned {
            begun.take(planned.clone());
        }
        begun
    }

    /// Takes a fault into account, whether there is room for it or not.
    pub(super) fn take(&mut self, planned: Planned) {
        self.harms.push(self.harm(&planned));
        self.taken.push(planned);
    }

    /// Whether there is room for a fault beside those that were taken.
    pub(super) fn has_room_for(&self, candidate: &Planned) -> bool {
        if broken(Mutation::BudgetIgnored) {
            return true;
        }
        let topology = self.shape.topology();
        let harm = self.harm(candidate);
        let meets = |other: &&Harm| other.from < harm.until && harm.from < other.until;
        let beside: Vec<_> = self.harms.iter().filter(meets).chain([&harm]).collect();
        // What is hurt grows only where a harm begins.
        let begins = beside.iter().map(|other| other.from.max(harm.from));
        let within = begins.into_iter().all(|at| {
            let now = beside.iter().filter(|other| other.from <= at && at < other.until);
            let (mut hurt, mut apart) = (BTreeSet::<NodeId>::new(), BTreeSet::<DcId>::new());
            for other in now {
                hurt.extend(&other.nodes);
                apart.extend(&other.apart);
            }
            let per_dc = topology.dcs().iter().all(|dc| {
                let here = topology.nodes_in(dc.id).filter(|node| hurt.contains(&node.id)).count();
                here <= self.most_hurt(dc.id)
            });
            per_dc && apart.len() <= most_apart(topology)
        });
        within && !self.taken.iter().any(|other| collide(other, candidate))
    }

    fn most_hurt(&self, dc: DcId) -> usize {
        match self.hurt_per_dc {
            Some(most) => usize::try_from(most).unwrap_or(usize::MAX),
            None => usize::from(self.shape.replication().replicas_in(dc).saturating_sub(1) / 2),
        }
    }

    fn harm(&self, planned: &Planned) -> Harm {
        let Planned { at, until, fault, .. } = planned;
        let (from, until, nodes) = match fault {
            Fault::Node { node, what } => {
                let (from, until) = self.hurts(what, *at, *until);
                (from, until, BTreeSet::from([*node]))
            }
            Fault::Ways { ways, what } => return self.apart(ways, what, *at, *until),
        };
        Harm { from, until, nodes, apart: BTreeSet::new() }
    }

    /// From when until when a fault hurts its node; nowhere where both are the same.
    fn hurts(&self, what: &NodeFault, at: Micros, until: Micros) -> (Micros, Micros) {
        match what {
            // Losing nothing, it is still a stop that is unclean: its data are doubted for a while.
            NodeFault::Crash { .. }
            | NodeFault::CrashAtSync { .. }
            | NodeFault::Kill {}
            | NodeFault::Wipe { .. }
            | NodeFault::FullDisk { .. } => (at, until + self.sound_after),
            NodeFault::Restore { .. } => (until, until + self.sound_after),
            // Nobody knows when a rotten block is read.
            NodeFault::Rot { .. } | NodeFault::Leave {} => (at, EVER),
            NodeFault::Stop {} | NodeFault::Pause {} | NodeFault::SlowDisk { .. } => {
                (at, until + BACK_AFTER)
            }
            NodeFault::ClockStep { .. } | NodeFault::ClockDrift { .. } => (at, at),
        }
    }

    /// What a fault of ways takes: a cut between whole datacenters sets the first one apart, any other
    /// cut hurts those that it cuts from.
    fn apart(&self, ways: &Ways, what: &WayFault, at: Micros, until: Micros) -> Harm {
        let topology = self.shape.topology();
        let mut harm = Harm { from: at, until, nodes: BTreeSet::new(), apart: BTreeSet::new() };
        if !matches!(what, WayFault::Cut {}) {
            harm.until = at;
            return harm;
        }
        harm.until = until + BACK_AFTER;
        match whole_dcs(topology, &ways.from) {
            Some(dcs) if whole_dcs(topology, &ways.to).is_some() => harm.apart = dcs,
            _ => harm.nodes = ways.from.iter().copied().collect(),
        }
        harm
    }
}

/// The datacenters whose nodes these are, if they are all of them.
fn whole_dcs(topology: &Topology, nodes: &[NodeId]) -> Option<BTreeSet<DcId>> {
    let dcs: BTreeSet<_> = nodes.iter().filter_map(|&node| topology.dc_of(node)).collect();
    let all = dcs.iter().map(|&dc| topology.nodes_in(dc).count()).sum::<usize>();
    (all == nodes.len()).then_some(dcs)
}

/// The largest minority of datacenters; of two, one.
fn most_apart(topology: &Topology) -> usize {
    (topology.dcs().len().saturating_sub(1) / 2).max(1)
}

/// Whether two faults of one node must not overlap: each needs the process or the disk as it finds
/// them. Clocks may be wrong at any time.
fn collide(a: &Planned, b: &Planned) -> bool {
    let (Fault::Node { node: one, what }, Fault::Node { node: other, what: what_else }) =
        (&a.fault, &b.fault)
    else {
        return false;
    };
    let clock = |what: &NodeFault| {
        matches!(what, NodeFault::ClockStep { .. } | NodeFault::ClockDrift { .. })
    };
    one == other && clock(what) == clock(what_else) && a.at <= b.until && b.at <= a.until
}
