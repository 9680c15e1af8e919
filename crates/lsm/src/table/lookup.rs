//! Where in a table a key may be: index and filter, whole in memory or in partitions that are read
//! through the cache.
//!
//! INVARIANT: a partition that cannot be read or is not what the top of the index says is an error,
//! never an empty answer.

use std::sync::{Arc, OnceLock};

use super::cache::Partition;
use super::filter::Filter;
use super::format::Handle;
use super::index::Index;
use super::parts::{Leaf, Part, Parts, keep};
use super::reader::{Table, read_raw};
use crate::coding::Malformed;
use crate::error::Error;
use crate::key::Seqno;

#[derive(Debug)]
pub(crate) enum Lookup {
    Whole { index: Index, filter: Option<Filter> },
    Parts(Parts),
}

impl Lookup {
    /// Bytes in memory, without partitions.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Whole { index, filter } => {
                index.bytes() + filter.as_ref().map_or(0, Filter::bytes)
            }
            Self::Parts(parts) => parts.bytes(),
        }
    }
}

impl Table {
    /// Data blocks.
    pub(crate) fn blocks(&self) -> usize {
        match &self.lookup {
            Lookup::Whole { index, .. } => index.len(),
            Lookup::Parts(parts) => parts.blocks(),
        }
    }

    /// Partitions of index and filter; 0: both are whole.
    pub(crate) fn partitions(&self) -> usize {
        match &self.lookup {
            Lookup::Whole { .. } => 0,
            Lookup::Parts(parts) => parts.len(),
        }
    }

    /// Keys that cut the table into pieces, each with the number of its blocks: of a block each, or of
    /// a partition.
    pub(crate) fn cuts(&self) -> impl Iterator<Item = (&[u8], usize)> {
        let count = match &self.lookup {
            Lookup::Whole { index, .. } => index.len(),
            Lookup::Parts(parts) => parts.len(),
        };
        (0..count).map(|at| match &self.lookup {
            Lookup::Whole { index, .. } => (index.separator(at), 1),
            Lookup::Parts(parts) => {
                (parts.separator(at), parts.get(at).map_or(0, |part| part.blocks))
            }
        })
    }

    /// The first block that may hold a version of `key` visible at `at`; `None`: no block does.
    /// `hash` is the key's.
    pub(crate) fn locate(
        &self,
        leaf: &mut Leaf,
        key: &[u8],
        hash: u64,
        at: Seqno,
    ) -> Result<Option<usize>, Error> {
        // Otherwise nothing in it was written by then.
        if self.record.min_seqno > at {
            return Ok(None);
        }
        match &self.lookup {
            Lookup::Whole { index, filter } => {
                let filtered = filter.as_ref().is_none_or(|filter| filter.may_contain(hash));
                Ok((filtered && self.covers(key)).then(|| index.find(key)))
            }
            Lookup::Parts(parts) => {
                if !self.covers(key) {
                    return Ok(None);
                }
                let at = parts.find(key);
                let part = parts.get(at).ok_or_else(|| self.not_in_index())?;
                if !self.part_may_hold(part, hash)? {
                    return Ok(None);
                }
                Ok(Some(part.first + self.part_index(parts, part, at, leaf)?.find(key)))
            }
        }
    }

    fn part_may_hold(&self, part: &Part, hash: u64) -> Result<bool, Error> {
        if part.filter.len == 0 {
            return Ok(true);
        }
        if let Some(filter) = part.kept_filter.get() {
            return Ok(filter.may_contain(hash));
        }
        let what = "a partition of the filter cannot be decoded";
        let filter = self.partition(part.filter, &part.kept_filter, true, what, Filter::parse)?;
        Ok(filter.may_contain(hash))
    }

    /// The first block that may hold `key` or something behind it; [`Table::blocks`] if there is none.
    pub(crate) fn find(&self, leaf: &mut Leaf, key: &[u8]) -> Result<usize, Error> {
        let parts = match &self.lookup {
            Lookup::Whole { index, .. } => return Ok(index.find(key)),
            Lookup::Parts(parts) => parts,
        };
        let at = parts.find(key);
        let Some(part) = parts.get(at) else { return Ok(parts.blocks()) };
        Ok(part.first + self.part_index(parts, part, at, leaf)?.find(key))
    }

    /// The index that has the block at `block_at`, and the block's number in it.
    pub(super) fn leaf<'a>(
        &'a self,
        leaf: &'a mut Leaf,
        block_at: usize,
    ) -> Result<(&'a Index, usize), Error> {
        let parts = match &self.lookup {
            Lookup::Whole { index, .. } => return Ok((index, block_at)),
            Lookup::Parts(parts) => parts,
        };
        let at = parts.of_block(leaf.at, block_at);
        let part = parts.get(at).ok_or_else(|| self.not_in_index())?;
        Ok((self.part_index(parts, part, at, leaf)?, block_at - part.first))
    }

    /// Where the block at `block_at` is.
    pub(super) fn handle(&self, leaf: &mut Leaf, block_at: usize) -> Result<Handle, Error> {
        let (index, local) = self.leaf(leaf, block_at)?;
        index.handle(local).ok_or_else(|| self.not_in_index())
    }

    /// Whether the next block may go on with `key`, the last one of the block at `block_at`.
    pub(crate) fn goes_on_with(
        &self,
        leaf: &mut Leaf,
        block_at: usize,
        key: &[u8],
    ) -> Result<bool, Error> {
        let (index, local) = self.leaf(leaf, block_at)?;
        Ok(index.separator(local) == key)
    }

    pub(super) fn not_in_index(&self) -> Error {
        Error::corruption(&self.path, 0, "a block is not in the index")
    }

    fn part_index<'a>(
        &self,
        parts: &'a Parts,
        part: &'a Part,
        at: usize,
        leaf: &'a mut Leaf,
    ) -> Result<&'a Index, Error> {
        let is_held = leaf.index.is_some() && leaf.at == at;
        if let Some(index) = part.kept_index.get() {
            if !is_held {
                (leaf.at, leaf.index) = (at, None);
            }
            return Ok(index);
        }
        if !is_held {
            let parse = |raw| {
                let index = Index::parse(raw)?;
                if parts.is_of(at, &index) { Ok(Arc::new(index)) } else { Err(Malformed) }
            };
            let what = "a partition of the index is not what the index says";
            let slot = &part.kept_index;
            leaf.index = Some(self.partition(part.index, slot, leaf.keep, what, parse)?);
            leaf.at = at;
        }
        leaf.index.as_deref().ok_or_else(|| self.not_in_index())
    }

    /// A partition out of the cache or the file; `may_stay`: and into the cache, or to its place.
    fn partition<P: Partition>(
        &self,
        handle: Handle,
        slot: &OnceLock<P>,
        may_stay: bool,
        what: &'static str,
        parse: impl FnOnce(bytes::Bytes) -> Result<P, Malformed>,
    ) -> Result<P, Error> {
        let (id, offset) = (self.record.id, handle.offset);
        if let Some(found) = self.cache.partition(id, offset, may_stay) {
            return Ok(found);
        }
        let raw = read_raw(&*self.file, &self.path, handle, None)?;
        let damage = |_malformed| Error::corruption(&self.path, offset, what);
        let read = parse(raw).map_err(damage)?;
        if may_stay && !keep(slot, &read, &self.pinned) {
            self.cache.insert_partition(id, offset, read.clone());
        }
        Ok(read)
    }

    /// Reads every data block and every partition, to name the one that is damaged.
    pub(super) fn read_through(&self) -> Result<(), Error> {
        if let Lookup::Parts(parts) = &self.lookup {
            for part in parts.all() {
                read_raw(&*self.file, &self.path, part.index, None)?;
                if part.filter.len > 0 {
                    read_raw(&*self.file, &self.path, part.filter, None)?;
                }
            }
        }
        let mut leaf = Leaf::new(false);
        for block_at in 0..self.blocks() {
            let handle = self.handle(&mut leaf, block_at)?;
            read_raw(&*self.file, &self.path, handle, self.dictionary.as_ref())?;
        }
        Ok(())
    }
}
