//! A write at ANY that reaches no replica (design rule 14).

use bytes::Bytes;
use meridian_crdt::Context;
use meridian_types::{Hlc, Millis, RowKey, WriteId};

/// A write that nobody could mint: it has no dot, because dots are minted by replicas only (rule
/// 1). It is kept, durably and without expiry, by the node that took it, and minted by the first
/// replica that it reaches. The write id makes a second delivery the same write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The row.
    pub row: RowKey,
    /// What is written; `None` deletes.
    pub value: Option<Bytes>,
    /// When the value stops being visible.
    pub expires: Option<Millis>,
    /// What the writer had seen.
    pub context: Context,
    /// When it was accepted. On an LWW table it keeps this stamp, so that it loses to what is
    /// newer.
    pub stamp: Hlc,
    /// The write's name.
    pub write_id: WriteId,
}
