//! Counting answers: has a level got what it waits for, and can it still get it?

use meridian_service::{DcShortfall, DcTally};
use meridian_topology::Topology;
use meridian_types::DcId;
use smallvec::SmallVec;

/// What a tally says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// More answers are needed, and may still come.
    Pending,
    /// The level has what it waits for.
    Met,
    /// Too many replicas failed: the level cannot be met any more.
    Unreachable,
}

/// What a level needs of one datacenter, and how far it came there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DcCount {
    /// The datacenter.
    pub dc: DcId,
    /// How many answers the level needs there; 0 where it counts over all datacenters only.
    pub required: u16,
    /// How many replicas there are.
    pub replicas: u16,
    /// How many answered.
    pub acked: u16,
    /// How many are known not to answer.
    pub failed: u16,
}

impl DcCount {
    fn alive(&self) -> u16 {
        self.replicas.saturating_sub(self.failed)
    }
}

/// Counts the answers of a vnode's replicas against a level.
///
/// A level is a number over all datacenters together and a number for each; both must be reached.
/// Who may ack or fail, and that a replica does so once, is for the machines to see to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    total: u16,
    /// At ANY: whether a durable hint is as good as a replica; and whether there is one.
    hint: Option<bool>,
    dcs: SmallVec<[DcCount; 4]>,
}

impl Tally {
    pub(crate) fn new(total: u16, hint_counts: bool, dcs: SmallVec<[DcCount; 4]>) -> Self {
        Self { total, hint: hint_counts.then_some(false), dcs }
    }

    /// The datacenters that hold replicas.
    #[must_use]
    pub fn dcs(&self) -> &[DcCount] {
        &self.dcs
    }

    /// How many answers are needed over all datacenters together; 0 where only those of single
    /// datacenters count.
    #[must_use]
    pub fn total_required(&self) -> u16 {
        self.total
    }

    /// How many answered, in all datacenters.
    #[must_use]
    pub fn acked(&self) -> u16 {
        self.dcs.iter().map(|dc| dc.acked).sum()
    }

    /// Whether the level has what it waits for.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.hint == Some(true) {
            return Verdict::Met;
        }
        let (mut acked, mut alive, mut met, mut reachable) = (0, 0, true, true);
        for dc in &self.dcs {
            acked += dc.acked;
            alive += dc.alive();
            met &= dc.acked >= dc.required;
            reachable &= dc.alive() >= dc.required;
        }
        if met && acked >= self.total {
            Verdict::Met
        } else if reachable && (alive >= self.total || self.hint.is_some()) {
            Verdict::Pending
        } else {
            Verdict::Unreachable
        }
    }

    /// A replica answered.
    pub(crate) fn ack(&mut self, at: usize) {
        self.dcs[at].acked += 1;
    }

    /// An answer does not count any more: another one is asked for.
    pub(crate) fn retract(&mut self, at: usize) {
        self.dcs[at].acked -= 1;
    }

    /// A replica does not answer.
    pub(crate) fn fail(&mut self, at: usize) {
        self.dcs[at].failed += 1;
    }

    /// A replica that was thought not to answer did.
    pub(crate) fn revive(&mut self, at: usize) {
        self.dcs[at].failed -= 1;
    }

    /// A durable hint is kept for some replica.
    pub(crate) fn hint_stored(&mut self) {
        if let Some(stored) = &mut self.hint {
            *stored = true;
        }
    }

    /// The same level with nothing counted yet but failures.
    pub(crate) fn without_acks(&self) -> Self {
        let mut fresh = self.clone();
        for dc in &mut fresh.dcs {
            dc.acked = 0;
        }
        fresh
    }

    /// Where too few replicas are alive.
    pub(crate) fn shortfalls(&self, topology: &Topology) -> Vec<DcShortfall> {
        let mut missing: Vec<DcShortfall> = self
            .dcs
            .iter()
            .filter(|dc| dc.alive() < dc.required)
            .map(|dc| DcShortfall {
                datacenter: dc_name(topology, dc.dc),
                required: dc.required.into(),
                alive: dc.alive().into(),
                replicas: dc.replicas.into(),
            })
            .collect();
        let alive: u16 = self.dcs.iter().map(DcCount::alive).sum();
        if alive < self.total {
            missing.push(DcShortfall {
                datacenter: "*".to_owned(),
                required: self.total.into(),
                alive: alive.into(),
                replicas: self.dcs.iter().map(|dc| usize::from(dc.replicas)).sum(),
            });
        }
        missing
    }

    /// Who answered, for an error. A read leaves out the datacenters that it asks nothing of.
    pub(crate) fn report(&self, topology: &Topology, write: bool) -> Vec<DcTally> {
        self.dcs
            .iter()
            .filter(|dc| write || self.total > 0 || dc.required > 0)
            .map(|dc| DcTally {
                datacenter: dc_name(topology, dc.dc),
                acked: dc.acked.into(),
                required: dc.required.into(),
                replicas: dc.replicas.into(),
            })
            .collect()
    }
}

fn dc_name(topology: &Topology, dc: DcId) -> String {
    topology.dc_name(dc).map_or_else(|| format!("datacenter {dc}"), str::to_owned)
}
