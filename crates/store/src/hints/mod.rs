//! Deltas that wait for a replica that did not answer, and writes that no replica has taken yet.
//!
//! A hint lives three hours, over restarts, and is dropped oldest first when there are too many:
//! anti-entropy brings what it would have brought, soon, because [`HintLog::take_undelivered`] says
//! where. An intent (a write at ANY that reached no
//! replica, rule 14) has no dot yet and exists nowhere else: it never expires and is never dropped;
//! when there are too many, new ones are refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use bytes::Bytes;
use meridian_crdt::{Context, Delta, Dot, Entry};
use meridian_types::{Hlc, KeyspaceId, Millis, NodeId, RowKey, WriteId};

use crate::metadata::MetadataError;

pub(crate) mod codec;
mod log;

pub use log::Hints;

/// How long a hint is worth delivering, in milliseconds: three hours. A node that is away for
/// longer has missed so much that comparing clocks is cheaper.
pub const HINT_WINDOW_MS: u64 = 3 * 60 * 60 * 1000;

/// How much a node keeps for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HintLimits {
    /// Bytes of hints, all targets together; beyond it the oldest go. Default 1 GiB: about an hour
    /// of 2,000 writes a second of 100 bytes for one silent replica.
    pub hint_bytes: u64,
    /// Bytes of intents; beyond it new ones are refused. Default 256 MiB.
    pub intent_bytes: u64,
    /// How long a hint is worth delivering, in milliseconds. Default [`HINT_WINDOW_MS`].
    pub window_ms: u64,
}

impl Default for HintLimits {
    fn default() -> Self {
        Self { hint_bytes: 1 << 30, intent_bytes: 256 << 20, window_ms: HINT_WINDOW_MS }
    }
}

/// Names a hint or an intent in the order of their arrival at this node, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HintId(pub u64);

/// A delta kept for a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The row.
    pub row: RowKey,
    /// The change.
    pub delta: Delta,
    /// The write's name, for the replica's table of recent writes.
    pub write_id: Option<WriteId>,
    /// When it was kept, by this node's wall clock.
    pub created: Millis,
}

impl Hint {
    /// Whether a window of this many milliseconds has closed.
    #[must_use]
    pub fn expired(&self, now: Millis, window_ms: u64) -> bool {
        now.since(self.created) > window_ms
    }
}

/// A write at ANY that reached no replica (rule 14). It has no dot until a replica reserves one;
/// from then on it is a delta that may be sent to anybody, as often as it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The row.
    pub row: RowKey,
    /// The value; `None` deletes.
    pub value: Option<Bytes>,
    /// When the value stops being visible.
    pub expires: Option<Millis>,
    /// When the write was accepted: the entry's stamp, whenever it gets its dot.
    pub stamp: Hlc,
    /// What its writer had seen.
    pub context: Context,
    /// Whether it replaces what the replica has that reserves its dot.
    pub over_what_is_here: bool,
    /// Its dot, once a replica reserved one.
    pub dot: Option<Dot>,
    /// The write's name.
    pub write_id: WriteId,
    /// When it was kept, by this node's wall clock.
    pub created: Millis,
}

impl Intent {
    /// The change, once it has its dot.
    #[must_use]
    pub fn delta(&self) -> Option<Delta> {
        let Self { value, expires, stamp, context, .. } = self;
        let (value, context) = (value.clone(), context.clone());
        let entry = |dot| Entry { dot, stamp: *stamp, expires: *expires, value };
        self.dot.map(|dot| Delta { entry: entry(dot), context })
    }
}

/// Why a hint is not needed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fulfilment {
    /// The replica took the delta from this hint.
    Delivered,
    /// The replica had the delta already, by whatever way.
    Superseded,
}

/// What became of hints and intents since this node started.
///
/// INVARIANT: `found + stored = delivered + superseded + expired + dropped + damaged` and those that
/// wait ([`HintLog::counts`]). What a crash took was not flushed; it is in no later `found`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HintCounters {
    /// Hints that were there when the log was opened.
    pub found: u64,
    /// Hints kept since.
    pub stored: u64,
    /// Hints that their replica took.
    pub delivered: u64,
    /// Hints whose replica had the write already.
    pub superseded: u64,
    /// Hints that their window closed on.
    pub expired: u64,
    /// Hints dropped because there were too many.
    pub dropped: u64,
    /// Hints whose bytes were damaged, and that were dropped.
    pub damaged: u64,
    /// Intents kept.
    pub intents_stored: u64,
    /// Intents refused because there were too many.
    pub intents_refused: u64,
    /// Bytes of hints now.
    pub hint_bytes: u64,
    /// Bytes of intents now.
    pub intent_bytes: u64,
    /// Intents now.
    pub intents: u64,
}

/// Keyspaces by replica: hints of them left undelivered, so the replica has to compare its clocks
/// with this node's. `None` names no keyspace: the hint's bytes were damaged, and it may be any.
pub type Undelivered = BTreeMap<NodeId, BTreeSet<Option<KeyspaceId>>>;

/// A hint or intent could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum HintError {
    /// The disk failed; the hint may be there or not, and the node must stop.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// There is no room for an intent. Nothing was kept: the write is refused.
    #[error("{bytes} bytes of writes wait for their replicas already, of {limit} allowed")]
    IntentsFull {
        /// Bytes kept.
        bytes: u64,
        /// The limit in force.
        limit: u64,
    },
    /// The bytes of an intent are damaged. It is still there.
    #[error("intent {} is damaged: {cause}", id.0)]
    DamagedIntent {
        /// Which one.
        id: HintId,
        /// What was found.
        cause: meridian_crdt::DecodeError,
    },
}

/// Hints by target, and intents. What is appended is durable after [`Self::flush`].
pub trait HintLog: Send + Sync + Debug {
    /// Keeps a hint for `target`.
    ///
    /// # Errors
    /// See [`HintError`].
    fn append(&self, target: NodeId, hint: &Hint) -> Result<HintId, HintError>;

    /// Hints for `target` behind `after`, oldest first: at most `max_hints`, and no more than
    /// `max_bytes` of them, but at least one where there is one.
    ///
    /// # Errors
    /// See [`HintError`]. A damaged hint is dropped and counted, for its write is elsewhere too.
    fn page(
        &self,
        target: NodeId,
        after: Option<HintId>,
        max_hints: usize,
        max_bytes: usize,
    ) -> Result<Vec<(HintId, Hint)>, HintError>;

    /// Forgets hints that are not needed any more, and why.
    ///
    /// # Errors
    /// See [`HintError`]; those that are still there are delivered again, which changes nothing.
    fn remove(&self, target: NodeId, ids: &[HintId], why: Fulfilment) -> Result<(), HintError>;

    /// Looks at up to `limit` hints for `target` behind `after`, and no more than 4 MiB of them but
    /// at least one, oldest first, and forgets those that `has` says the target has: they count as
    /// superseded. Where to go on; `None` at the end.
    ///
    /// # Errors
    /// See [`HintError`]; no hint that the target lacks was forgotten.
    fn supersede(
        &self,
        target: NodeId,
        after: Option<HintId>,
        limit: usize,
        has: &dyn Fn(&Hint) -> bool,
    ) -> Result<Option<HintId>, HintError>;

    /// Forgets every hint whose window has closed at `now`; how many there were, by target.
    ///
    /// # Errors
    /// See [`HintError`].
    fn expire(&self, now: Millis) -> Result<BTreeMap<NodeId, u64>, HintError>;

    /// Where hints were given up (expired, dropped, damaged) since this was last asked. In memory
    /// only: after a restart of this node its peers compare everything anyway.
    fn take_undelivered(&self) -> Undelivered;

    /// How many hints wait, by target; targets without any are left out.
    fn counts(&self) -> BTreeMap<NodeId, u64>;

    /// Keeps an intent.
    ///
    /// # Errors
    /// See [`HintError`].
    fn append_intent(&self, intent: &Intent) -> Result<HintId, HintError>;

    /// Intents behind `after`, oldest first, bounded as [`Self::page`] is.
    ///
    /// # Errors
    /// See [`HintError`].
    fn intents(
        &self,
        after: Option<HintId>,
        max_intents: usize,
        max_bytes: usize,
    ) -> Result<Vec<(HintId, Intent)>, HintError>;

    /// One intent, if it is still there.
    ///
    /// # Errors
    /// See [`HintError`].
    fn intent(&self, id: HintId) -> Result<Option<Intent>, HintError>;

    /// Puts an intent that has its dot now in the place of what it was. Durable after
    /// [`Self::flush`], and only then may the dot leave this node.
    ///
    /// # Errors
    /// See [`HintError`]; either of the two may be there.
    fn name_intent(&self, id: HintId, named: &Intent) -> Result<(), HintError>;

    /// Forgets intents: the replicas that reserved their dots durably have them.
    ///
    /// # Errors
    /// See [`HintError`].
    fn remove_intents(&self, ids: &[HintId]) -> Result<(), HintError>;

    /// What became of all of them.
    fn counters(&self) -> HintCounters;

    /// Makes everything so far durable.
    ///
    /// # Errors
    /// Nothing is known about what was kept since the last success; the node must stop.
    fn flush(&self) -> Result<(), HintError>;
}

#[cfg(test)]
mod tests;
