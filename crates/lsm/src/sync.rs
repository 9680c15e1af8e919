//! The primitives of the rooms that a checker of interleavings runs: the crates in `models/` mount
//! the same sources over a twin of this module.

pub(crate) use parking_lot::Mutex;
pub(crate) use std::sync::atomic;
