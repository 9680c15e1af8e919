//! Dots that were given out before their deltas exist (rule 14).
//!
//! A node that keeps a write until a replica durably has it (an intent, a logged batch) asks a
//! replica for a dot first, and sends the delta only when the dot is durable beside the write. So
//! however often it sends, and to whomever, the write has one name. The price is a gap in the
//! clock's base until the delta comes; where none comes, the replica asks the keeper, and counts
//! the dot as seen once the keeper has given it up.
//!
//! INVARIANT: in memory only, because the actor ends with the memory: a start after a crash begins
//! a new incarnation, and so does one after a close that found dots reserved.
//!
//! INVARIANT: looked at and changed under the lock of the dot's vnode where a dot is given out, so
//! that no two writes get one dot.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use meridian_types::{KeptAs, KeyspaceId, Millis, NodeId, TableId, Token, VnodeId};
use parking_lot::Mutex;

/// Most dots that are reserved at once on a node. A keeper that is refused asks another replica, or
/// again later.
pub(crate) const MAX_RESERVED: usize = 65_536;

/// Whose write a dot is for. Not by its write id: a keeper may keep a retry as another write, and
/// two deltas of one dot would be one name for two things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kept {
    pub(crate) keeper: NodeId,
    pub(crate) kept_as: KeptAs,
    pub(crate) table: TableId,
    pub(crate) token: Token,
}

/// A dot of this node's, by vnode and counter.
pub(crate) type Place = (KeyspaceId, VnodeId, u64);

/// What is known of a reserved dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reservation {
    pub(crate) kept: Kept,
    /// Who may have come to keep it besides.
    pub(crate) holders: Vec<NodeId>,
    pub(crate) since: Millis,
}

#[derive(Debug, Default)]
struct Book {
    dots: BTreeMap<Place, Reservation>,
    /// Those that may be given out again, to the same write. Not those that a keeper was asked
    /// about: its answer may be about an older call.
    names: BTreeMap<Kept, Place>,
}

impl Book {
    fn remove(&mut self, place: Place) {
        if let Some(Reservation { kept, .. }) = self.dots.remove(&place)
            && self.names.get(&kept) == Some(&place)
        {
            self.names.remove(&kept);
        }
    }
}

/// The reserved dots of a life.
#[derive(Debug, Default)]
pub(crate) struct Reservations {
    book: Mutex<Book>,
    /// How many: most nodes have none, and their writers need not lock.
    count: AtomicUsize,
}

impl Reservations {
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// The highest counter that is reserved in a vnode; 0 where none is.
    pub(crate) fn highest(&self, keyspace: KeyspaceId, vnode: VnodeId) -> u64 {
        if self.is_empty() {
            return 0;
        }
        let book = self.book.lock();
        let all = (keyspace, vnode, 0)..=(keyspace, vnode, u64::MAX);
        book.dots.range(all).next_back().map_or(0, |((.., counter), _)| *counter)
    }

    /// The counter that this life gave to a write, if it may be given again.
    pub(crate) fn find(&self, kept: Kept) -> Option<u64> {
        self.book.lock().names.get(&kept).map(|(.., counter)| *counter)
    }

    /// Gives a counter out; whether there was room.
    pub(crate) fn insert(&self, place: Place, reservation: Reservation) -> bool {
        let mut book = self.book.lock();
        if book.dots.len() >= MAX_RESERVED {
            return false;
        }
        book.names.insert(reservation.kept, place);
        book.dots.insert(place, reservation);
        self.count.store(book.dots.len(), Ordering::Release);
        true
    }

    /// Forgets a dot: the clock has it.
    pub(crate) fn remove(&self, place: Place) {
        if self.is_empty() {
            return;
        }
        let mut book = self.book.lock();
        book.remove(place);
        self.count.store(book.dots.len(), Ordering::Release);
    }

    /// Dots that were reserved `age_ms` ago or longer, behind `after` in the order of their places;
    /// from now on they are not given out again.
    pub(crate) fn ask(
        &self,
        after: Option<Place>,
        limit: usize,
        age_ms: u64,
        now: Millis,
    ) -> Vec<(Place, Reservation)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let mut book = self.book.lock();
        let Book { dots, names } = &mut *book;
        let behind = dots.range((after.map_or(Unbounded, Excluded), Unbounded));
        let old = behind.filter(|(_, reserved)| now.since(reserved.since) >= age_ms);
        let old: Vec<_> =
            old.take(limit).map(|(place, reserved)| (*place, reserved.clone())).collect();
        for (place, Reservation { kept, .. }) in &old {
            if names.get(kept) == Some(place) {
                names.remove(kept);
            }
        }
        old
    }
}
