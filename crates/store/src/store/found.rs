//! What a start finds of each vnode, and what it makes of it (rule 10).
//!
//! INVARIANT: what is worse than before is recorded, and is durable with the start's life, before
//! anything of the vnode is shown. A start that is cut off before that finds the same again.

use std::collections::btree_map::Entry as MapEntry;

use meridian_lsm::WriteBatch;
use meridian_types::{Incarnation, Mutation, broken};

use super::open::Opened;
use super::*;
use crate::records::{self, CLOCKS, STATES};
use crate::standing::{Standing, VnodeKind, VnodeState};

/// A vnode's keyspace, and its number there.
pub(super) type VnodeName = (KeyspaceId, VnodeId);

/// States in one batch of a start, at most: some hundred kilobytes.
const STATES_A_BATCH: usize = 10_000;

/// The vnodes that have a clock or a state.
#[derive(Debug, Default)]
pub(super) struct FoundVnodes {
    clocks: BTreeMap<VnodeName, VnodeClock>,
    states: BTreeMap<VnodeName, VnodeState>,
    /// Those whose state is another one than was recorded.
    changed: BTreeSet<VnodeName>,
    /// Those whose clock must go.
    cleared: BTreeSet<VnodeName>,
}

impl FoundVnodes {
    pub(super) fn load(
        clocks: &Tree,
        at: &Snapshot,
        count: VnodeCount,
    ) -> Result<Self, StoreError> {
        let mut found = Self::default();
        let check = |vnode: VnodeId| match count.contains(vnode) {
            true => Ok(()),
            false => Err(StoreError::NoSuchVnode { vnode, count: count.get() }),
        };
        for stored in clocks.scan(range(CLOCKS), at) {
            let (key, value) = stored?;
            let (keyspace, vnode, clock) = records::read_clock(&key, &value)
                .map_err(|cause| StoreError::record(format!("clock {key:02x?}"), &cause))?;
            check(vnode)?;
            found.clocks.insert((keyspace, vnode), clock);
        }
        for stored in clocks.scan(range(STATES), at) {
            let (key, value) = stored?;
            let (keyspace, vnode, state) = records::read_state(&key, &value)
                .map_err(|cause| StoreError::record(format!("state {key:02x?}"), &cause))?;
            check(vnode)?;
            found.states.insert((keyspace, vnode), state);
        }
        Ok(found)
    }

    /// What the start means for each of them.
    pub(super) fn judge(&mut self, opened: &Opened) {
        // A clock without a state is from before there were states: it proved itself then.
        for name in self.clocks.keys() {
            if let MapEntry::Vacant(vacant) = self.states.entry(*name) {
                vacant.insert(VnodeState::sound());
                self.changed.insert(*name);
            }
        }
        if opened.data_lost || opened.unproven {
            for (name, state) in &mut self.states {
                let has_nothing = self.clocks.get(name).is_none_or(VnodeClock::is_empty);
                // Rows without a clock are loose ones.
                let has_rows = !has_nothing || state.kind == VnodeKind::Rebuilding;
                let kind = if has_rows { VnodeKind::Rebuilding } else { VnodeKind::Fresh };
                let resetting = state.resetting;
                *state = VnodeState { resetting, ..VnodeState::begun(kind, opened.incarnation) };
                self.changed.insert(*name);
            }
        } else if opened.tail_lost {
            for (name, state) in &mut self.states {
                let before = state.clone();
                state.tail_lost();
                if *state != before {
                    self.changed.insert(*name);
                }
            }
        }
    }

    /// Those that have a clock or a state.
    pub(super) fn names(&self) -> BTreeSet<VnodeName> {
        self.clocks.keys().chain(self.states.keys()).copied().collect()
    }

    /// Begins a vnode anew whose rows are not all there.
    pub(super) fn reset(&mut self, name: VnodeName, life: Incarnation) {
        let begun = VnodeState::begun(VnodeKind::Rebuilding, life);
        self.states.insert(name, VnodeState { resetting: true, ..begun });
        self.changed.insert(name);
        if !broken(Mutation::KeepClockOfLostTables) {
            self.clocks.remove(&name);
            self.cleared.insert(name);
        }
    }

    /// Those whose reset has begun and not ended.
    pub(super) fn resetting(&self) -> Vec<VnodeName> {
        let resetting = self.states.iter().filter(|(_, state)| state.resetting);
        resetting.map(|(name, _)| *name).collect()
    }

    /// The contexts of their rows are gone.
    pub(super) fn reset_ended(&mut self, names: &[VnodeName]) {
        for name in names {
            if let Some(state) = self.states.get_mut(name) {
                state.resetting = false;
                self.changed.insert(*name);
            }
        }
    }

    /// Writes what has changed. Durable with whatever is synced after it.
    pub(super) fn record(&mut self, db: &Db, clocks: &Tree) -> Result<(), StoreError> {
        let changed: Vec<VnodeName> = std::mem::take(&mut self.changed).into_iter().collect();
        for names in changed.chunks(STATES_A_BATCH) {
            let mut batch = WriteBatch::new();
            for (keyspace, vnode) in names {
                if self.cleared.remove(&(*keyspace, *vnode)) {
                    batch.delete(clocks, records::clock_key(*keyspace, *vnode));
                }
                if let Some(state) = self.states.get(&(*keyspace, *vnode)) {
                    let key = records::state_key(*keyspace, *vnode);
                    batch.put(clocks, key, state.to_bytes());
                }
            }
            db.write(batch)?;
        }
        Ok(())
    }

    /// As the store keeps them.
    pub(super) fn into_keyspaces(
        mut self,
        count: VnodeCount,
        floor: Hlc,
        life: Incarnation,
    ) -> BTreeMap<KeyspaceId, Arc<Vnodes>> {
        let mut keyspaces: BTreeMap<KeyspaceId, Arc<Vnodes>> = BTreeMap::new();
        for name in self.names() {
            let (keyspace, vnode) = name;
            let new = || Arc::new(Vnodes::new(keyspace, count, floor));
            let vnodes = keyspaces.entry(keyspace).or_insert_with(new);
            let mut locked = vnodes.lock(vnode);
            if let Some(clock) = self.clocks.remove(&name) {
                locked.replace(clock);
            }
            if let Some(state) = self.states.remove(&name) {
                locked.recorded(state);
            }
            let state = locked.state(life);
            vnodes.publish(vnode, Standing::new(&state, state.goods_unjudged()));
        }
        keyspaces
    }
}

fn range((first, end): ([u8; 1], [u8; 1])) -> (Bound<Bytes>, Bound<Bytes>) {
    let key = |key: [u8; 1]| Bytes::copy_from_slice(&key);
    (Bound::Included(key(first)), Bound::Excluded(key(end)))
}
