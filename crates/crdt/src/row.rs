//! Rows, and the one place where two versions become one.

use std::sync::Arc;

use std::borrow::Borrow;
use std::convert::identity;

use bytes::Bytes;
use meridian_types::{ConflictPolicy, Hlc, Millis, Mutation, broken};
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

    /// What the last writer has most of: the stamp, and the dot where stamps are equal.
    fn rank(&self) -> (Hlc, Dot) {
        (self.stamp, self.dot)
    }

    /// The digest of the entries up to this one, from the digest of those before it. The value
    /// enters as its own digest, so that nothing is copied but a few fixed fields.
    fn digest_after(&self, before: u128) -> u128 {
        let mut fields = [0; 69];
        let flags = u8::from(self.value.is_none()) | u8::from(self.expires.is_some()) << 1;
        fields[0] = flags;
        fields[1..5].copy_from_slice(&self.dot.actor.node.0.to_be_bytes());
        fields[5..13].copy_from_slice(&self.dot.actor.incarnation.0.to_be_bytes());
        fields[13..21].copy_from_slice(&self.dot.counter.to_be_bytes());
        fields[21..29].copy_from_slice(&self.stamp.0.to_be_bytes());
        fields[29..37].copy_from_slice(&self.expires.unwrap_or_default().0.to_be_bytes());
        let value = xxh3_128(self.value.as_deref().unwrap_or_default());
        fields[37..53].copy_from_slice(&value.to_be_bytes());
        fields[53..].copy_from_slice(&before.to_be_bytes());
        xxh3_128(&fields)
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
        Row::of_one(self.entry, self.context)
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

    /// A row that has one entry, which is the steady state.
    pub(crate) fn of_one(entry: Entry, context: Context) -> Self {
        Self { entries: smallvec![entry], context }
    }

    /// The entries and the context.
    pub(crate) fn into_parts(self) -> (SmallVec<[Entry; 1]>, Context) {
        (self.entries, self.context)
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
        if !broken(Mutation::TokenWithoutRowContext) {
            context.union_with(&self.context);
        }
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
            ConflictPolicy::Lww => self.join_lww(&other.entries, Entry::clone),
            ConflictPolicy::Siblings => self.join_siblings(mine, other, theirs),
        }
    }

    fn join_siblings(&mut self, mine: &impl Covers, other: &Self, theirs: &impl Covers) {
        self.drop_covered(other, theirs);
        self.add_uncovered(mine, &other.entries, Entry::clone);
    }

    /// Drops the entries whose effect the other side saw and does not have any more.
    fn drop_covered(&mut self, other: &Self, theirs: &impl Covers) {
        self.entries.retain(|entry| other.entry(entry.dot).is_some() || !theirs.covers(entry.dot));
    }

    /// Adds the entries whose effect this side has not seen yet.
    fn add_uncovered<E: Borrow<Entry>>(
        &mut self,
        mine: &impl Covers,
        entries: impl IntoIterator<Item = E>,
        owned: impl Fn(E) -> Entry,
    ) {
        for entry in entries {
            let dot = entry.borrow().dot;
            if let Err(at) = self.entries.binary_search_by_key(&dot, |entry| entry.dot)
                && !mine.covers(dot)
            {
                self.entries.insert(at, owned(entry));
            }
        }
    }

    fn join_lww<E: Borrow<Entry>>(
        &mut self,
        entries: impl IntoIterator<Item = E>,
        owned: impl Fn(E) -> Entry,
    ) {
        if self.entries.len() > 1 {
            let winner = self.entries.drain(..).max_by_key(Entry::rank);
            self.entries.extend(winner);
        }
        for entry in entries {
            match self.entries.first_mut() {
                None => self.entries.push(owned(entry)),
                Some(mine) if mine.rank() < entry.borrow().rank() => *mine = owned(entry),
                Some(_) => {}
            }
        }
    }

    /// Adds to what the row covers.
    pub fn remember(&mut self, context: &Context) {
        self.context.union_with(context);
    }

    /// Drops from the row's context what the clock's contiguous base covers (rule 5).
    pub fn strip(&mut self, clock: &VnodeClock) {
        if broken(Mutation::ForgetRowContext) {
            self.context = Context::default();
        }
        if !self.context.is_empty() {
            self.context = self.context.stripped(clock);
        }
    }

    /// Joins what a replica answered for this row into another replica's row and clock: all of
    /// rule 6 at once, for pulls and repairs. Both sides' row and clock must come from one storage
    /// sequence number; `theirs` is the other's [`Self::full_context`].
    ///
    /// The clock learns the dots of the other's entries and nothing else: a dot that only
    /// `theirs` covers is remembered by the row, or by the join of the clocks after the last row
    /// of a pull (rule 7).
    pub fn join_answer(
        &mut self,
        policy: ConflictPolicy,
        clock: &mut VnodeClock,
        other: &Self,
        theirs: &Context,
    ) {
        let mine = std::mem::take(&mut self.context);
        self.join(policy, &Coverage { clock: Some(clock), context: &mine }, other, theirs);
        for entry in &other.entries {
            clock.insert(entry.dot);
        }
        if policy == ConflictPolicy::Siblings && !broken(Mutation::ForgetRowContext) {
            self.context = mine.stripped(clock);
            self.context.union_with(&theirs.stripped(clock));
        }
    }

    /// Joins a peer's version of the row where markers are collected: in a full pull with the clock
    /// that the peer has of the row's instant, which sweeps away what the peer has seen go; in
    /// every other join, and from a peer whose clock proves nothing (rule 10), with an empty one.
    ///
    /// An LWW row keeps no context, so [`Self::join_answer`] would bring back what was deleted: the
    /// entry of a page or a repair that was read before the marker was collected, and the row of a
    /// checkpoint older than the delete. Here the clocks remember for it (rule 12). An own entry
    /// goes if the peer's clock has its dot and the peer's row has nothing of at least its rank; an
    /// entry whose dot the own clock has is not taken. The clock takes the dots of what came and of
    /// what went, so that neither comes again.
    ///
    /// A row that passes as swept is only as good as the peer's clock: one whose rows were lost and
    /// that was not reset (rule 10) deletes here what is missing there.
    pub fn sweep(
        &mut self,
        policy: ConflictPolicy,
        clock: &mut VnodeClock,
        peer: &Self,
        peer_clock: &VnodeClock,
    ) {
        match policy {
            ConflictPolicy::Siblings => {
                self.join_answer(policy, clock, peer, &peer.full_context(peer_clock));
            }
            ConflictPolicy::Lww => {
                self.sweep_lww(clock, peer, peer_clock);
                for entry in &peer.entries {
                    clock.insert(entry.dot);
                }
            }
        }
    }

    fn sweep_lww(&mut self, clock: &mut VnodeClock, peer: &Self, peer_clock: &VnodeClock) {
        self.join_lww(std::iter::empty::<&Entry>(), Entry::clone);
        let theirs = peer.entries.iter().max_by_key(|entry| entry.rank());
        match (self.entries.first(), theirs) {
            (Some(mine), Some(theirs)) if mine.rank() <= theirs.rank() => {
                if !clock.contains(theirs.dot) {
                    self.entries = smallvec![theirs.clone()];
                }
            }
            (Some(mine), theirs) if peer_clock.contains(mine.dot) => {
                clock.insert(mine.dot);
                // What is below an own entry that goes had lost to nothing else here.
                self.entries = theirs.cloned().into_iter().collect();
            }
            (None, Some(theirs)) if !clock.contains(theirs.dot) => {
                self.entries.push(theirs.clone());
            }
            (Some(_) | None, _) => {}
        }
    }

    /// Whether a pull must bring this row to a replica with this clock: it has a dot that the
    /// replica lacks, or remembers something that no clock says (rule 7).
    #[must_use]
    pub fn is_news_to(&self, puller: &VnodeClock) -> bool {
        !self.context.is_empty() || self.entries.iter().any(|entry| !puller.contains(entry.dot))
    }

    /// Applies a delta whose dot the replica's clock does not have (rule 4). The caller adds the
    /// dot to the clock, strips the row, and stores both in one WAL record.
    pub fn apply(&mut self, policy: ConflictPolicy, delta: Delta) {
        self.absorb(policy, delta.into_row());
    }

    /// Joins a row that covers only its own context: a delta, or several that became one. This is
    /// the storage engine's merge operator; it needs no clock, and is associative. An operand that
    /// meets no row is absorbed into an empty one.
    pub fn absorb(&mut self, policy: ConflictPolicy, other: Self) {
        match policy {
            ConflictPolicy::Siblings => {
                self.drop_covered(&other, &other.context);
                let mine = std::mem::take(&mut self.context);
                match broken(Mutation::ApplyDespiteRowContext) {
                    true => self.add_uncovered(&Context::default(), other.entries, identity),
                    false => self.add_uncovered(&mine, other.entries, identity),
                }
                self.context = mine;
                self.context.union_with(&other.context);
            }
            ConflictPolicy::Lww => {
                self.join_lww(other.entries, identity);
                // Causality decides nothing here, so nothing of it is kept: whichever way deltas
                // were grouped, the bytes are the same.
                self.context = Context::default();
            }
        }
    }

    /// A digest of the entries: what two replicas compare before they send values. Contexts are
    /// left out, because how much of them is still needed differs between equal replicas.
    ///
    /// Replicas send it to each other, so it is as fixed as a format; `docs/formats/rows.md`.
    #[must_use]
    pub fn digest(&self) -> u128 {
        self.entries.iter().fold(0, |digest, entry| entry.digest_after(digest))
    }
}
