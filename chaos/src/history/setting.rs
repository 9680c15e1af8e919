//! What is fixed for a run: nodes, tables, where keys live, and what levels wait for.

use std::collections::BTreeMap;

use meridian_types::{
    ConflictPolicy, ConsistencyLevel, DcId, KeyspaceId, NodeId, TableId, VnodeId,
};

use super::Key;
use crate::sim::Micros;

/// What a replica's acknowledgement is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPromise {
    /// Synced before it is given: a crash takes none back.
    Always,
    /// Synced at most so much later, the disk's own time included: a crash takes back what is
    /// younger.
    Within(Micros),
}

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSetting {
    /// Its keyspace.
    pub keyspace: KeyspaceId,
    /// What happens to concurrent writes.
    pub policy: ConflictPolicy,
    /// Whether values written without an expiry of their own expire all the same.
    pub has_ttl: bool,
}

/// Where a key lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its vnode.
    pub vnode: VnodeId,
    /// The replicas, in the order of the preference list.
    pub replicas: Vec<NodeId>,
}

/// What is fixed for a run.
#[derive(Clone, Debug)]
pub struct Setting {
    /// What a replica's acknowledgement is worth.
    pub sync: SyncPromise,
    /// The nodes and their datacenters.
    pub nodes: BTreeMap<NodeId, DcId>,
    /// The tables.
    pub tables: BTreeMap<TableId, TableSetting>,
    /// Every key that clients may use.
    pub keys: BTreeMap<Key, Place>,
    /// How far any two wall clocks may be apart, with steps, in milliseconds.
    pub skew_ms: u64,
    /// How long everything may take to heal after the last fault.
    pub heal: Micros,
}

impl Setting {
    /// Replicas of a key by datacenter.
    #[must_use]
    pub fn replicas_by_dc(&self, key: Key) -> BTreeMap<DcId, usize> {
        let mut by_dc = BTreeMap::new();
        for node in self.keys.get(&key).map_or(&[][..], |place| &place.replicas) {
            if let Some(dc) = self.nodes.get(node) {
                *by_dc.entry(*dc).or_default() += 1;
            }
        }
        by_dc
    }

    /// The policy of a key's table; `Siblings` where the table is not named.
    #[must_use]
    pub fn policy(&self, key: Key) -> ConflictPolicy {
        self.tables.get(&key.table).map_or(ConflictPolicy::Siblings, |table| table.policy)
    }
}

/// What a level waits for: so many replicas in all, and so many in each of some datacenters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// In all.
    pub total: usize,
    /// In a datacenter.
    pub in_dc: BTreeMap<DcId, usize>,
}

impl Need {
    /// What `level` waits for where the coordinator is in `local` and replicas are `by_dc`.
    /// Counted apart from the coordinator's own arithmetic on purpose: this is what
    /// `docs/consistency.md` promises.
    #[must_use]
    pub fn of(level: ConsistencyLevel, local: DcId, by_dc: &BTreeMap<DcId, usize>) -> Self {
        use ConsistencyLevel as L;
        let majority = |n: usize| n / 2 + 1;
        let all: usize = by_dc.values().sum();
        let here = by_dc.get(&local).copied().unwrap_or_default();
        let total = |total| Self { total, in_dc: BTreeMap::new() };
        let in_local = |n| Self { total: n, in_dc: BTreeMap::from([(local, n)]) };
        match level {
            // A hint counts as well, so no replica need have it.
            L::Any => total(0),
            L::One => total(1),
            L::Two => total(2),
            L::Three => total(3),
            L::Quorum | L::Serial => total(majority(all)),
            L::All => total(all),
            L::LocalOne => in_local(1),
            L::LocalQuorum | L::LocalSerial => in_local(majority(here)),
            L::EachQuorum => {
                let in_dc: BTreeMap<DcId, usize> =
                    by_dc.iter().map(|(dc, n)| (*dc, majority(*n))).collect();
                Self { total: in_dc.values().sum(), in_dc }
            }
        }
    }

    fn in_dc(&self, dc: DcId) -> usize {
        self.in_dc.get(&dc).copied().unwrap_or_default()
    }
}

/// Whether any replicas that fulfil `a` have one in common with any that fulfil `b`.
#[must_use]
pub fn overlap(a: &Need, b: &Need, by_dc: &BTreeMap<DcId, usize>) -> bool {
    let fits_in_each = by_dc.iter().all(|(dc, n)| a.in_dc(*dc) + b.in_dc(*dc) <= *n);
    let fits = a.total + b.total <= by_dc.values().sum();
    !(fits_in_each && fits)
}

#[cfg(test)]
mod tests {
    use ConsistencyLevel as L;

    use super::*;

    const EU: DcId = DcId(1);
    const US: DcId = DcId(2);

    fn meet(write: (L, DcId), read: (L, DcId)) -> bool {
        let by_dc = BTreeMap::from([(EU, 3), (US, 3)]);
        let need = |(level, dc)| Need::of(level, dc, &by_dc);
        overlap(&need(write), &need(read), &by_dc)
    }

    #[test]
    fn levels_overlap_as_the_table_says() {
        for (write, read, expected) in [
            ((L::Quorum, EU), (L::Quorum, US), true),
            ((L::LocalQuorum, EU), (L::LocalQuorum, EU), true),
            ((L::LocalQuorum, EU), (L::LocalQuorum, US), false),
            ((L::LocalQuorum, EU), (L::Quorum, EU), false),
            ((L::Quorum, EU), (L::LocalQuorum, EU), false),
            ((L::EachQuorum, EU), (L::LocalQuorum, US), true),
            ((L::EachQuorum, EU), (L::Quorum, US), true),
            ((L::EachQuorum, EU), (L::EachQuorum, US), true),
            ((L::All, EU), (L::One, US), true),
            ((L::All, EU), (L::LocalOne, US), true),
            ((L::One, EU), (L::All, US), true),
            ((L::Any, EU), (L::All, US), false),
            ((L::LocalOne, EU), (L::LocalQuorum, EU), false),
            ((L::Three, EU), (L::Quorum, EU), true),
            ((L::Three, EU), (L::Three, EU), false),
        ] {
            assert_eq!(meet(write, read), expected, "{write:?} {read:?}");
        }
    }

    #[test]
    fn a_datacenter_without_replicas_needs_none() {
        let by_dc = BTreeMap::from([(EU, 3)]);
        assert_eq!(Need::of(L::Quorum, US, &by_dc).total, 2);
        assert_eq!(Need::of(L::EachQuorum, US, &by_dc).in_dc, BTreeMap::from([(EU, 2)]));
    }
}
