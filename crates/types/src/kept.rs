//! Writes that a node keeps until they are done, and repeats (design rule 14).

use crate::BatchId;

/// How the node that keeps a write finds it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeptAs {
    /// As an intent, by its number on that node.
    Intent(u64),
    /// As a part of an atomic batch.
    Batch(BatchId),
}
