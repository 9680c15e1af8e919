//! A position in a memtable that keeps it alive.

#![expect(unsafe_code, reason = "the position is a node of the list that the cursor keeps alive")]

use std::ptr::NonNull;
use std::sync::Arc;

use super::Memtable;
use super::skip_list::{Node, NodeRef};

/// A bidirectional position.
pub(crate) struct MemCursor {
    table: Arc<Memtable>,
    at: Option<NonNull<Node>>,
}

// SAFETY: `at` is a node of `table`'s list, which the cursor keeps alive; published nodes are
// immutable but for atomic links.
unsafe impl Send for MemCursor {}
// SAFETY: as above; a shared cursor only reads.
unsafe impl Sync for MemCursor {}

impl MemCursor {
    pub(crate) const fn new(table: Arc<Memtable>) -> Self {
        Self { table, at: None }
    }

    fn node(&self) -> Option<NodeRef<'_>> {
        // SAFETY: `at` came from this table's list.
        self.at.map(|node| unsafe { self.table.list.resume(node) })
    }

    pub(crate) const fn valid(&self) -> bool {
        self.at.is_some()
    }

    pub(crate) fn key(&self) -> &[u8] {
        self.node().map_or(&[], NodeRef::key)
    }

    pub(crate) fn tag(&self) -> u64 {
        self.node().map_or(0, NodeRef::tag)
    }

    pub(crate) fn value(&self) -> &[u8] {
        self.node().map_or(&[], NodeRef::value)
    }

    pub(crate) fn first(&mut self) {
        self.at = self.table.list.first().map(NodeRef::as_ptr);
    }

    pub(crate) fn last(&mut self) {
        self.at = self.table.list.last().map(NodeRef::as_ptr);
    }

    /// The first version at or behind `(key, tag)`.
    pub(crate) fn seek(&mut self, key: &[u8], tag: u64) {
        self.at = self.table.list.seek(key, tag).map(NodeRef::as_ptr);
    }

    /// The last version before `(key, tag)`.
    pub(crate) fn seek_before(&mut self, key: &[u8], tag: u64) {
        self.at = self.table.list.seek_before(key, tag).map(NodeRef::as_ptr);
    }

    pub(crate) fn next(&mut self) {
        let next = self.node().and_then(|node| self.table.list.next(node));
        self.at = next.map(NodeRef::as_ptr);
    }

    pub(crate) fn prev(&mut self) {
        let prev = self.node().and_then(|node| self.table.list.seek_before(node.key(), node.tag()));
        self.at = prev.map(NodeRef::as_ptr);
    }
}
