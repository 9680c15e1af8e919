//! What a start does about tables and parts of the log that the storage engine has lost (rule 10).
//!
//! Where rows are gone, the clock of their vnode claims what is not there. So the vnode begins anew
//! with an empty clock, and what is left of its rows is loose (`loose`). A row context covers
//! what was replaced by an entry that is loose now: handed on, it would take that entry's
//! predecessor away from replicas that do not have the entry. So the contexts go as well.
//!
//! The order, for a power cut at any point: the state of the vnode, which says that a reset has
//! begun, and the removal of its clock are one batch; when that is durable, the engine may forget
//! what was lost; then the contexts go; then the state says that the reset has ended. A start that
//! finds a reset begun goes on with the contexts.

use std::ops::RangeInclusive;

use meridian_crdt::Context;
use meridian_lsm::{LostRange, LostTable, Recovery, TreeConfig, WriteBatch};
use meridian_types::{Incarnation, Mutation, broken};

use super::found::{FoundVnodes, VnodeName};
use super::*;
use crate::merge::RowMerge;
use crate::records::{self, AHEAD_KEY, CLOCKS_TREE, MARK_KEY};

/// Rows in one batch of a reset, at most.
const RESET_ROWS: usize = 1_000;

/// What is lost.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// For the operator.
    pub(super) told: Vec<String>,
    /// Whether the engine tells of anything, be it of no consequence.
    pub(super) are_told: bool,
    /// Whether any vnode may be hurt: what was in memory only, or the clocks themselves.
    everywhere: bool,
    spans: Vec<(KeyspaceId, RangeInclusive<u32>)>,
}

/// The tables of a data directory, before there is a store.
pub(super) struct Room<'a> {
    pub(super) db: &'a Db,
    pub(super) clocks: &'a Tree,
    pub(super) catalog: &'a Catalog,
    pub(super) count: VnodeCount,
}

impl Losses {
    pub(super) fn of(
        recovery: &Recovery,
        catalog: &Catalog,
        count: VnodeCount,
    ) -> Result<Self, StoreError> {
        let ranges = recovery.lost.iter().filter(|range| !range.is_empty());
        let mut losses = Self {
            are_told: !(recovery.lost.is_empty() && recovery.lost_tables.is_empty()),
            told: ranges.map(LostRange::to_string).collect(),
            everywhere: recovery.lost.iter().any(|range| !range.is_empty()),
            spans: Vec::new(),
        };
        for lost in &recovery.lost_tables {
            losses.told.push(lost.to_string());
            if lost.tree == CLOCKS_TREE {
                losses.everywhere = true;
                continue;
            }
            let of_table = |def: &&TableDef| records::tree_name(def.id) == lost.tree;
            let Some(def) = catalog.tables().find(of_table) else {
                return Err(StoreError::LostWithCatalog { lost: lost.to_string() });
            };
            losses.spans.push((def.keyspace, vnodes_of(lost, count)));
        }
        Ok(losses)
    }

    /// Whether the store's own records may be among it.
    pub(super) fn are_everywhere(&self) -> bool {
        self.everywhere
    }
}

/// The vnodes that a lost table had rows of.
fn vnodes_of(lost: &LostTable, count: VnodeCount) -> RangeInclusive<u32> {
    let vnode = |key: &[u8]| Some(count.vnode_of(key::token_of(key)?).0);
    let first = vnode(&lost.smallest).unwrap_or(0);
    let last = vnode(&lost.largest).unwrap_or(u32::MAX);
    first..=last
}

impl Room<'_> {
    /// Gives each table's tree its merge operator. Trees of tables that the catalog does not know
    /// (the metadata were wiped) get one too, so that they are flushed and compacted soundly until
    /// the catalog comes again.
    pub(super) fn configure(&self) -> Result<(), StoreError> {
        for name in self.db.trees() {
            if records::is_table_tree(&name) {
                let def = self.catalog.tables().find(|def| records::tree_name(def.id) == name);
                let policy = def.map_or_else(ConflictPolicy::default, |def| def.options.policy);
                let merge = RowMerge::new(SharedPolicy::new(policy));
                self.db.create_tree(TreeConfig::new(name).with_merge(Arc::new(merge)))?;
            }
        }
        Ok(())
    }

    /// Begins to reset the vnodes that are hurt, durably; from then on the engine tells of the
    /// losses no more.
    pub(super) fn begin_resets(
        &self,
        losses: &Losses,
        vnodes: &mut FoundVnodes,
        life: Incarnation,
    ) -> Result<(), StoreError> {
        let mut hurt = BTreeSet::new();
        if losses.everywhere {
            hurt.extend(vnodes.names());
            hurt.extend(self.vnodes_with_rows()?);
        }
        for (keyspace, span) in &losses.spans {
            let in_span = |name: &VnodeName| name.0 == *keyspace && span.contains(&name.1.0);
            hurt.extend(vnodes.names().into_iter().filter(in_span));
        }
        if broken(Mutation::StateAfterReset) {
            let mut batch = WriteBatch::new();
            for (keyspace, vnode) in &hurt {
                batch.delete(self.clocks, records::clock_key(*keyspace, *vnode));
            }
            self.db.write(batch)?;
            self.db.sync()?;
            self.db.forget_lost()?;
        }
        hurt.into_iter().for_each(|name| vnodes.reset(name, life));
        vnodes.record(self.db, self.clocks)?;
        self.db.sync()?;
        Ok(self.db.forget_lost()?)
    }

    /// The vnodes that have rows; and an error for those that nobody knows the keyspace of.
    fn vnodes_with_rows(&self) -> Result<BTreeSet<VnodeName>, StoreError> {
        let mut names = BTreeSet::new();
        for (def, tree) in self.tables() {
            let mut from = Bound::Unbounded;
            loop {
                let mut rows = tree.scan((from, Bound::Unbounded), &self.db.snapshot());
                let Some(first) = rows.next() else { break };
                let Some(token) = key::token_of(&first?.0) else { break };
                let vnode = self.count.vnode_of(token);
                names.insert((def.keyspace, vnode));
                let Bound::Excluded(end) = stored_range(self.count, vnode).1 else { break };
                from = Bound::Included(end);
            }
        }
        Ok(names)
    }

    fn tables(&self) -> impl Iterator<Item = (&TableDef, Tree)> {
        let tables = self.catalog.tables();
        tables.filter_map(|def| Some((def, self.db.tree(&records::tree_name(def.id))?)))
    }

    /// A tree with rows of a table that the catalog does not know.
    fn orphan(&self) -> Result<Option<String>, StoreError> {
        let known: BTreeSet<String> =
            self.catalog.tables().map(|def| records::tree_name(def.id)).collect();
        for name in self.db.trees() {
            let is_orphan = records::is_table_tree(&name) && !known.contains(&name);
            let Some(tree) = self.db.tree(&name).filter(|_| is_orphan) else { continue };
            let all = (Bound::Unbounded, Bound::Unbounded);
            if tree.scan(all, &self.db.snapshot()).next().transpose()?.is_some() {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Takes the contexts out of the rows of the vnodes whose reset has begun, and ends the resets;
    /// durable with the start's life. Returns the highest stamp of an entry there.
    pub(super) fn end_resets(&self, vnodes: &mut FoundVnodes) -> Result<Hlc, StoreError> {
        let mut top = Hlc::ZERO;
        let resetting = vnodes.resetting();
        if resetting.is_empty() {
            return Ok(top);
        }
        if let Some(tree) = self.orphan()? {
            return Err(StoreError::LostWithCatalog { lost: format!("the clocks of tree {tree}") });
        }
        for (keyspace, vnode) in &resetting {
            for (def, tree) in self.tables().filter(|(def, _)| def.keyspace == *keyspace) {
                top = top.max(self.take_contexts(def, &tree, *vnode)?);
            }
        }
        vnodes.reset_ended(&resetting);
        vnodes.record(self.db, self.clocks)?;
        Ok(top)
    }

    fn take_contexts(
        &self,
        def: &TableDef,
        tree: &Tree,
        vnode: VnodeId,
    ) -> Result<Hlc, StoreError> {
        let mut top = Hlc::ZERO;
        let (mut batch, mut rows) = (WriteBatch::new(), 0);
        for stored in tree.scan(stored_range(self.count, vnode), &self.db.snapshot()) {
            let (key, value) = stored?;
            let row = Row::from_bytes(&value).map_err(|cause| corrupt(def, &key, &cause))?;
            top = row.entries().iter().map(|entry| entry.stamp).fold(top, Hlc::max);
            if row.context().is_empty() {
                continue;
            }
            let without = Row::new(row.entries().iter().cloned(), Context::default());
            loose::put_stored(&mut batch, tree, &key, &without);
            rows += 1;
            if rows % RESET_ROWS == 0 {
                self.db.write(std::mem::take(&mut batch))?;
            }
        }
        if !batch.is_empty() {
            self.db.write(batch)?;
        }
        Ok(top)
    }

    /// Stores that there is an entry with this stamp: the marks may be lost. Returns the marks.
    pub(super) fn raise_marks(
        &self,
        top: Hlc,
        (mark, ahead): (Hlc, Hlc),
        latest: Millis,
    ) -> Result<(Hlc, Hlc), StoreError> {
        if top <= mark.max(ahead) {
            return Ok((mark, ahead));
        }
        let mut batch = WriteBatch::new();
        // A stamp that is too far ahead of this node's clock is not followed.
        let is_near = top.millis() <= latest;
        let key = if is_near { MARK_KEY } else { AHEAD_KEY };
        batch.merge(self.clocks, key, records::stamp_to_bytes(top));
        self.db.write(batch)?;
        Ok(if is_near { (top, ahead) } else { (mark, top) })
    }
}

fn corrupt(def: &TableDef, stored_key: &Bytes, cause: &meridian_crdt::DecodeError) -> StoreError {
    let key = key::decode(stored_key).map_or_else(|_| stored_key.clone(), |position| position.key);
    let cause = cause.to_string();
    StoreError::Corrupt(Box::new(CorruptRow { table: def.name.clone(), key, file: None, cause }))
}
