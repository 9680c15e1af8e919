//! What the manifest says, as a value: the sum of its changes.

use std::collections::BTreeMap;

use super::edit::{Change, TableRecord, TreeRecord};
use crate::blob::format::BlobRecord;
use crate::key::Seqno;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TreeState {
    pub(crate) record: TreeRecord,
    pub(crate) flushed: Seqno,
    pub(crate) tables: BTreeMap<u64, TableRecord>,
    pub(crate) blobs: BTreeMap<u64, BlobRecord>,
}

impl TreeState {
    /// Compares how far the tree is flushed with what one of its tables says of that.
    ///
    /// # Errors
    /// When the table knows better: what the log has of these writes would be there twice.
    pub(crate) fn check_flushed(&self, table: u64, said: Seqno) -> Result<(), String> {
        if said <= self.flushed {
            return Ok(());
        }
        let (name, flushed) = (&self.record.name, self.flushed);
        Err(format!(
            "tree {name} is flushed up to {flushed} here and up to {said} by its table {table:016x}"
        ))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) trees: BTreeMap<u32, TreeState>,
    pub(crate) next_tree: u32,
    pub(crate) next_table: u64,
    /// 0: no segment was ever created.
    pub(crate) wal_floor: u64,
    pub(crate) last_seqno: Seqno,
    /// The log's last segment and its length, if closing it was the last change.
    pub(crate) closed: Option<(u64, u64)>,
}

impl State {
    /// Applies one change.
    ///
    /// # Errors
    /// When the change contradicts what is there: the manifest is damaged.
    pub(crate) fn apply(&mut self, change: &Change) -> Result<(), String> {
        self.closed = None;
        match change {
            Change::CreateTree(record) => {
                let (tables, blobs) = (BTreeMap::new(), BTreeMap::new());
                let state = TreeState { record: record.clone(), flushed: 0, tables, blobs };
                self.next_tree = self.next_tree.max(record.id.saturating_add(1));
                if self.trees.insert(record.id, state).is_some() {
                    return Err(format!("tree {} is created twice", record.id));
                }
            }
            Change::ConfigureTree(record) => {
                let state = self.tree(record.id)?;
                if state.record.name != record.name {
                    return Err(format!("tree {} has another name", record.id));
                }
                state.record = record.clone();
            }
            Change::DropTree { tree } => {
                self.trees.remove(tree).ok_or_else(|| format!("tree {tree} is not there"))?;
            }
            Change::AddTable { tree, table } => {
                self.next_table = self.next_table.max(table.id.saturating_add(1));
                let state = self.tree(*tree)?;
                let stray = table.blobs.iter().find(|share| !state.blobs.contains_key(&share.file));
                if let Some(stray) = stray {
                    return Err(format!("blob file {} is not there", stray.file));
                }
                if state.tables.insert(table.id, table.clone()).is_some() {
                    return Err(format!("table {} is added twice", table.id));
                }
            }
            Change::AddBlob { tree, blob } => {
                self.next_table = self.next_table.max(blob.id.saturating_add(1));
                if self.tree(*tree)?.blobs.insert(blob.id, *blob).is_some() {
                    return Err(format!("blob file {} is added twice", blob.id));
                }
            }
            Change::RemoveBlob { tree, blob } => {
                let removed = self.tree(*tree)?.blobs.remove(blob);
                removed.ok_or_else(|| format!("blob file {blob} is not there"))?;
            }
            Change::RemoveTable { tree, table } => {
                let removed = self.tree(*tree)?.tables.remove(table);
                removed.ok_or_else(|| format!("table {table} is not there"))?;
            }
            Change::MoveTable { tree, table, level } => {
                let moved = self.tree(*tree)?.tables.get_mut(table);
                moved.ok_or_else(|| format!("table {table} is not there"))?.level = *level;
            }
            Change::Flushed { tree, seqno } => {
                let state = self.tree(*tree)?;
                state.flushed = state.flushed.max(*seqno);
            }
            Change::WalFloor { segment, last } => {
                self.wal_floor = self.wal_floor.max(*segment);
                self.last_seqno = self.last_seqno.max(*last);
            }
            Change::NextIds { table, tree } => {
                self.next_table = self.next_table.max(*table);
                self.next_tree = self.next_tree.max(*tree);
            }
            Change::Closed { segment, bytes } => self.closed = Some((*segment, *bytes)),
        }
        Ok(())
    }

    fn tree(&mut self, id: u32) -> Result<&mut TreeState, String> {
        self.trees.get_mut(&id).ok_or_else(|| format!("tree {id} is not there"))
    }

    /// The changes that make this state from nothing.
    pub(crate) fn snapshot(&self) -> Vec<Change> {
        let mut changes = vec![
            Change::NextIds { table: self.next_table, tree: self.next_tree },
            Change::WalFloor { segment: self.wal_floor, last: self.last_seqno },
        ];
        for (&tree, state) in &self.trees {
            changes.push(Change::CreateTree(state.record.clone()));
            changes.push(Change::Flushed { tree, seqno: state.flushed });
            let blobs = state.blobs.values();
            changes.extend(blobs.map(|blob| Change::AddBlob { tree, blob: *blob }));
            let tables = state.tables.values();
            changes.extend(tables.map(|table| Change::AddTable { tree, table: table.clone() }));
        }
        changes
    }
}
