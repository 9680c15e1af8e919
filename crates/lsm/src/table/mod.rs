//! SSTables: immutable sorted files. `docs/formats/lsm-sstable.md` describes the bytes.

pub(crate) mod block;
pub(crate) mod cache;
pub(crate) mod compress;
pub(crate) mod cursor;
pub(crate) mod filter;
pub(crate) mod filter_bits;
pub(crate) mod format;
pub(crate) mod garbage;
pub(crate) mod index;
pub(crate) mod joined;
pub(crate) mod lookup;
pub(crate) mod metadata;
pub(crate) mod parts;
pub(crate) mod readahead;
pub(crate) mod reader;
mod stretch;
pub(crate) mod writer;

#[cfg(test)]
mod part_tests;
#[cfg(test)]
mod tests;
