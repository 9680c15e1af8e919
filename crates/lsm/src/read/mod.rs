//! Reading: one key, or a range, as of a snapshot, through memtables and levels.

pub(crate) mod get;
pub(crate) mod merge_iter;
pub(crate) mod range;
pub(crate) mod snapshot;
