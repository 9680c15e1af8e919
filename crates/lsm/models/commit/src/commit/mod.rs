//! The twin of the engine's `commit`: the same rooms, without the trees.

use crate::key::Seqno;

#[path = "../../../../src/commit/log.rs"]
pub(crate) mod log;
#[path = "../../../../src/commit/queue.rs"]
mod queue;
#[path = "../../../../src/commit/settle.rs"]
pub(crate) mod settle;
#[path = "../../../../src/commit/visible.rs"]
pub(crate) mod visible;

/// A written batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Commit {
    pub(crate) first: Seqno,
    pub(crate) last: Seqno,
}

impl Commit {
    pub(crate) const fn new(first: Seqno, last: Seqno) -> Self {
        Self { first, last }
    }
}
