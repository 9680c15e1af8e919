//! Rows, and the one place where two versions become one.

use std::sync::Arc;

use bytes::Bytes;
use meridian_types::{ConflictPolicy, Hlc, Millis};
use smallvec::{SmallVec, smallvec};
use xxhash_rust::xxh3::xxh3_128;

use crate::{Context, Dot, VnodeClock};

/// One dotted value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The write that made it.
    pub dot: Dot,
    /// When it was written, by the hybrid logical clock of the node that minted the dot.
    pub stamp: Hlc,
    /// When it stops being visible. From then on it acts as a marker.
    pub expires: Option<Millis>,
    /// The value; `None` is a marker: deleted, until every replica durably knows it.
    pub value: Option<Bytes>,
}

impl Entry {
    /// Whether a reader at `now` sees a value in this entry.
    #[must_use]
    pub fn is_visible(&self, now: Millis) -> bool {
        self.value.is_some() && self.expires.is_none_or(|at| now < at)
    }
}

/// One dotted change of one row, with the context that it was made under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// What was written.
    pub entry: Entry,
    /// What the writer had seen: the entries that this write replaces.
    pub context: Context,
}

impl Delta {
    /// The delta as a row: joining it into a row that only covers its own context is applying it.
    #[must_use]
    pub fn into_row(self) -> Row {
        Row { entries: smallvec![self.entry], context: self.context }
    }
}

/// Answers whether somebody has seen the effect of a dot.
pub trait Covers {
    /// Whether the dot's effect was seen.
    fn covers(&self, dot: Dot) -> bool;
}

/// Everything that a replica covers for one row besides the row's own entries: its clock, and the
/// row's context (rule 6). A replica without the row still covers with its clock.
#[derive(Clone, Copy, Debug)]
pub struct Coverage<'a> {
    /// The replica's clock of the vnode. `None` where only the context may speak: deltas, merge
    /// operands, and replicas that are rebuilding (rule 10).
    pub clock: Option<&'a VnodeClock>,
    /// The row's context.
    pub context: &'a Context,
}

impl Covers for Coverage<'_> {
    fn covers(&self, dot: Dot) -> bool {
        self.clock.is_some_and(|clock| clock.contains(dot)) || self.context.contains(dot)
    }
}

/// What is stored under (table, key, subkey).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    // INVARIANT: sorted by dot, no dot twice.
    entries: SmallVec<[Entry; 1]>,
    context: Context,
}

/// A row and the clock that it was read under: both of one storage sequence number, because a row
/// read before and a clock read after a write would cover a dot that they do not hold (rule 6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowVersion {
    /// The row; empty where the replica has none.
    pub row: Row,
    /// The clock of its vnode.
    pub clock: Arc<VnodeClock>,
}

impl Row {
    /// A row from its parts.
    #[must_use]
    pub fn new(entries: impl IntoIterator<Item = Entry>, context: Context) -> Self {
        let mut entries: SmallVec<[Entry; 1]> = entries.into_iter().collect();
        entries.sort_by_key(|entry| entry.dot);
        entries.dedup_by_key(|entry| entry.dot);
        Self { entries, context }
    }

    /// The entries, by dot. Markers and expired entries are among them.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What the row covers beyond its replica's clock base.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Whether there is nothing to store.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.context.is_empty()
    }

    /// The entry with this dot.
    #[must_use]
    pub fn entry(&self, dot: Dot) -> Option<&Entry> {
        self.entries.binary_search_by_key(&dot, |entry| entry.dot).ok().map(|at| &self.entries[at])
    }

    /// What a reader at `now` sees: live entries by dot, equal bytes once (rule 11).
    ///
    /// Under [`ConflictPolicy::Lww`] there is at most one entry, so at most one value.
    pub fn visible(&self, now: Millis) -> impl Iterator<Item = &Entry> {
        self.entries.iter().enumerate().filter_map(move |(at, entry)| {
            let shown_before =
                || self.entries[..at].iter().any(|e| e.is_visible(now) && e.value == entry.value);
            (entry.is_visible(now) && !shown_before()).then_some(entry)
        })
    }

    /// The context of a reader of this row at a replica with this clock: base, live dots and row
    /// context, which is exact: a later put replaces what was seen and nothing else (rule 9).
    #[must_use]
    pub fn reader_context(&self, clock: &VnodeClock) -> Context {
        let mut context = clock.base_context();
        context.union_with(&self.context);
        for entry in &self.entries {
            context.insert(entry.dot);
        }
        context
    }

    /// Everything that a replica with this row and clock covers for the row, as one context.
    #[must_use]
    pub fn full_context(&self, clock: &VnodeClock) -> Context {
        let mut context = clock.to_context();
        context.union_with(&self.context);
        for entry in &self.entries {
            context.insert(entry.dot);
        }
        context
    }

    /// Joins another version of the row into this one.
    ///
    /// `mine` and `theirs` say what each side covers *besides* its entries. An entry stays if both
    /// have it, or if the side that lacks it does not cover its dot. The row's context is left to
    /// the caller, because what must be remembered depends on the clock: see
    /// [`Self::remember`] and [`Self::strip`].
    ///
    /// Commutative, associative and idempotent in what it shows, as long as each side's coverage
    /// is the truth.
    pub fn join(
        &mut self,
        policy: ConflictPolicy,
        mine: &impl Covers,
        other: &Self,
        theirs: &impl Covers,
    ) {
        match policy {
            ConflictPolicy::Lww => self.join_lww(other),
            ConflictPolicy::Siblings => self.join_siblings(mine, other, theirs),
        }
    }

    fn join_siblings(&mut self, mine: &impl Covers, other: &Self, theirs: &impl Covers) {
        let news: SmallVec<[Entry; 1]> = other
            .entries
            .iter()
            .filter(|entry| self.entry(entry.dot).is_none() && !mine.covers(entry.dot))
            .cloned()
            .collect();
        self.entries.retain(|entry| other.entry(entry.dot).is_some() || !theirs.covers(entry.dot));
        for entry in news {
            let at = self.entries.partition_point(|e| e.dot < entry.dot);
            self.entries.insert(at, entry);
        }
    }

    fn join_lww(&mut self, other: &Self) {
        let order = |entry: &&Entry| (entry.stamp, entry.dot);
        let winner = self.entries.iter().chain(&other.entries).max_by_key(order).cloned();
        self.entries = winner.into_iter().collect();
    }

    /// Adds to what the row covers.
    pub fn remember(&mut self, context: &Context) {
        self.context.union_with(context);
    }

    /// Drops from the row's context what the clock's contiguous base covers (rule 5).
    pub fn strip(&mut self, clock: &VnodeClock) {
        if !self.context.is_empty() {
            self.context = self.context.stripped(clock);
        }
    }

    /// Applies a delta whose dot the replica's clock does not have (rule 4). The caller adds the
    /// dot to the clock, strips the row, and stores both in one WAL record.
    pub fn apply(&mut self, policy: ConflictPolicy, delta: Delta) {
        let other = delta.into_row();
        self.absorb(policy, other);
    }

    /// Joins a row that covers only its own context: a delta, or several that became one. This is
    /// the storage engine's merge operator; it needs no clock, and is associative.
    pub fn absorb(&mut self, policy: ConflictPolicy, other: Self) {
        let mine = std::mem::take(&mut self.context);
        self.join(policy, &mine, &other, &other.context);
        self.context = mine;
        if policy == ConflictPolicy::Siblings {
            self.context.union_with(&other.context);
        }
    }

    /// A digest of the entries: what two replicas compare before they send values. Contexts are
    /// left out, because how much of them is still needed differs between equal replicas.
    #[must_use]
    pub fn digest(&self) -> u128 {
        xxh3_128(&Self { entries: self.entries.clone(), context: Context::default() }.to_bytes())
    }
}
