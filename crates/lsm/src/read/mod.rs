//! Reading: one key, some keys, or a range, as of a snapshot, through memtables and levels.

pub(crate) mod get;
pub(crate) mod merge_iter;
mod multi;
pub(crate) mod range;
pub(crate) mod snapshot;
