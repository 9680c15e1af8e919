//! The top of a large table's index: for each partition a separator, where the partition's index and
//! filter are, and how many data blocks it is for. The top stays in memory, the partitions while
//! there is room.
//!
//! INVARIANT: a key is in the filter of a partition if and only if a version of it is in one of the
//! partition's blocks, and the first partition with a separator at or behind the key has the newest.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::cache::{Partition, Pinned};
use super::filter::Filter;
use super::format::Handle;
use super::index::{Index, encode_entry};
use super::metadata::Metadata;
use crate::coding::{Malformed, put_varint};

/// A partition: where it is, and what of it stays in memory.
#[derive(Debug)]
pub(crate) struct Part {
    /// Number of its first data block in the table.
    pub(crate) first: usize,
    pub(crate) blocks: usize,
    pub(crate) index: Handle,
    /// Length 0: none.
    pub(crate) filter: Handle,
    pub(crate) kept_index: OnceLock<Arc<Index>>,
    pub(crate) kept_filter: OnceLock<Filter>,
}

#[derive(Debug)]
pub(crate) struct Parts {
    /// The separators, and where the partitions of the index are.
    top: Index,
    parts: Vec<Part>,
}

/// Appends an entry of the top.
pub(crate) fn encode_part(
    out: &mut Vec<u8>,
    separator: &[u8],
    index: Handle,
    filter: Handle,
    blocks: u64,
) {
    encode_entry(out, separator, index);
    put_varint(out, filter.offset);
    put_varint(out, u64::from(filter.len));
    put_varint(out, blocks);
}

impl Parts {
    /// `file_len`: what the handles have to be inside of.
    pub(crate) fn parse(data: Bytes, file_len: u64) -> Result<Self, Malformed> {
        let mut parts: Vec<Part> = Vec::new();
        let mut first = 0usize;
        let inside = |handle: Handle| {
            handle.offset.checked_add(u64::from(handle.len)).is_some_and(|end| end <= file_len)
        };
        let top = Index::parse_with(data, |decoder, index| {
            let filter = Handle { offset: decoder.varint()?, len: decoder.varint_u32()? };
            let blocks = decoder.varint_len()?;
            if blocks == 0 || !inside(index) || !inside(filter) {
                return Err(Malformed);
            }
            let (kept_index, kept_filter) = (OnceLock::new(), OnceLock::new());
            parts.push(Part { first, blocks, index, filter, kept_index, kept_filter });
            first = first.checked_add(blocks).ok_or(Malformed)?;
            Ok(())
        })?;
        Ok(Self { top, parts })
    }

    pub(crate) fn len(&self) -> usize {
        self.parts.len()
    }

    /// Data blocks of all partitions.
    pub(crate) fn blocks(&self) -> usize {
        self.parts.last().map_or(0, |part| part.first + part.blocks)
    }

    /// Bytes in memory, without partitions.
    pub(crate) fn bytes(&self) -> usize {
        self.top.bytes() + self.parts.len() * size_of::<Part>()
    }

    /// The first partition that may hold `key` or something behind it; `len()` if there is none.
    pub(crate) fn find(&self, key: &[u8]) -> usize {
        self.top.find(key)
    }

    /// The partition of a data block, which may be the one at `near`.
    pub(crate) fn of_block(&self, near: usize, block_at: usize) -> usize {
        let is_in = |part: &Part| (part.first..part.first + part.blocks).contains(&block_at);
        if self.parts.get(near).is_some_and(is_in) {
            return near;
        }
        self.parts.partition_point(|part| part.first + part.blocks <= block_at)
    }

    pub(crate) fn get(&self, at: usize) -> Option<&Part> {
        self.parts.get(at)
    }

    pub(crate) fn all(&self) -> &[Part] {
        &self.parts
    }

    pub(crate) fn separator(&self, at: usize) -> &[u8] {
        self.top.separator(at)
    }

    /// Whether it is what the table says of itself: every key that the table covers is at or before
    /// a separator.
    pub(crate) fn is_for(&self, meta: &Metadata) -> bool {
        self.len() as u64 == meta.partitions
            && self.blocks() as u64 == meta.blocks
            && *self.separator(self.len() - 1) == *meta.largest
    }

    /// Whether `index` is what the top says of the partition at `at`.
    pub(crate) fn is_of(&self, at: usize, index: &Index) -> bool {
        let part = self.parts.get(at);
        part.is_some_and(|part| part.blocks == index.len())
            && index.separator(index.len() - 1) == self.separator(at)
    }
}

/// Keeps a partition in its place if there is room.
pub(crate) fn keep<P: Partition>(slot: &OnceLock<P>, partition: &P, pinned: &Pinned) -> bool {
    let bytes = partition.bytes() as u64;
    if !pinned.grow(bytes) {
        return false;
    }
    if slot.set(partition.clone()).is_err() {
        // Somebody else was faster.
        pinned.shrink(bytes);
    }
    true
}

/// The partition of a table's index that somebody was in last, for neighbours are often asked for
/// next. Always of the same table.
#[derive(Debug)]
pub(crate) struct Leaf {
    /// Whether partitions that are read go into the cache, or stay.
    pub(crate) keep: bool,
    pub(crate) at: usize,
    /// `None`: it is looked for in its place.
    pub(crate) index: Option<Arc<Index>>,
}

impl Leaf {
    pub(crate) const fn new(keep: bool) -> Self {
        Self { keep, at: 0, index: None }
    }
}
