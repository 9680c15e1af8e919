//! Recent writes by the name that their client gave them: a retry gets the dot of the first try
//! (rule 11).
//!
//! INVARIANT: an entry is looked up and noted under the lock of its row's vnode, so two tries of
//! one write never mint twice while the table holds the first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use meridian_crdt::{Delta, Entry};
use meridian_types::{Millis, Mutation, TableId, Token, WriteId, broken};
use parking_lot::Mutex;

/// Stripes of the table, each with its own lock and its part of the bytes.
const STRIPES: usize = 16;

/// What an entry costs besides its value, in bytes: two map nodes, the delta, its context.
const ENTRY_BYTES: usize = 256;

/// A client may write several rows under one name (a batch), so the row is part of the name.
type Name = (WriteId, TableId, Token);

#[derive(Debug, Default)]
struct Stripe {
    deltas: BTreeMap<Name, Arc<Delta>>,
    oldest_first: VecDeque<(Millis, Name)>,
    bytes: usize,
}

/// The table, bounded in bytes and age.
#[derive(Debug)]
pub(crate) struct WriteIds {
    stripes: Vec<Mutex<Stripe>>,
    stripe_bytes: usize,
    ttl_ms: u64,
}

impl WriteIds {
    pub(crate) fn new(bytes: usize, ttl_ms: u64) -> Self {
        let stripes = (0..STRIPES).map(|_| Mutex::default()).collect();
        Self { stripes, stripe_bytes: bytes / STRIPES, ttl_ms }
    }

    fn stripe(&self, id: WriteId) -> &Mutex<Stripe> {
        // The last byte is random in every version of UUID that clients use.
        &self.stripes[usize::from(id.to_bytes()[15]) % STRIPES]
    }

    /// The delta of an earlier try.
    pub(crate) fn find(
        &self,
        id: WriteId,
        table: TableId,
        token: Token,
        now: Millis,
    ) -> Option<Arc<Delta>> {
        let mut stripe = self.stripe(id).lock();
        stripe.forget_before(now, self.ttl_ms);
        let known = stripe.deltas.get(&(id, table, token)).cloned();
        known.filter(|_| !broken(Mutation::ForgetWriteIds))
    }

    /// Remembers a delta. One that is larger than a stripe's part is not kept: a retry of it is a
    /// second write with equal bytes, which readers see once.
    pub(crate) fn note(
        &self,
        id: WriteId,
        table: TableId,
        token: Token,
        delta: &Delta,
        now: Millis,
    ) {
        let cost = cost(delta);
        if cost > self.stripe_bytes {
            return;
        }
        // The value may be a view into a much larger buffer, which must not live for minutes.
        let value = delta.entry.value.as_deref().map(Bytes::copy_from_slice);
        let entry = Entry { value, ..delta.entry.clone() };
        let delta = Arc::new(Delta { entry, context: delta.context.clone() });
        let mut stripe = self.stripe(id).lock();
        stripe.forget_before(now, self.ttl_ms);
        let name = (id, table, token);
        if stripe.deltas.contains_key(&name) {
            return;
        }
        stripe.bytes += cost;
        stripe.deltas.insert(name, delta);
        stripe.oldest_first.push_back((now, name));
        while stripe.bytes > self.stripe_bytes && stripe.forget_oldest() {}
    }

    /// Entries, and their bytes.
    pub(crate) fn size(&self) -> (usize, usize) {
        self.stripes.iter().fold((0, 0), |(entries, bytes), stripe| {
            let stripe = stripe.lock();
            (entries + stripe.deltas.len(), bytes + stripe.bytes)
        })
    }
}

fn cost(delta: &Delta) -> usize {
    let actors = delta.context.dots().actors().count();
    ENTRY_BYTES + delta.entry.value.as_ref().map_or(0, Bytes::len) + actors * 48
}

impl Stripe {
    fn forget_before(&mut self, now: Millis, ttl_ms: u64) {
        while self.oldest_first.front().is_some_and(|(noted, _)| now.since(*noted) > ttl_ms) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) -> bool {
        let Some((_, name)) = self.oldest_first.pop_front() else { return false };
        if let Some(delta) = self.deltas.remove(&name) {
            self.bytes -= cost(&delta);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use meridian_crdt::{Actor, Context, Dot};
    use meridian_types::{Hlc, Incarnation, NodeId};

    use super::*;

    fn delta(counter: u64, bytes: usize) -> Delta {
        let actor = Actor { node: NodeId(1), incarnation: Incarnation(1) };
        let entry = Entry {
            dot: Dot::new(actor, counter),
            stamp: Hlc(counter),
            expires: None,
            value: Some(vec![7; bytes].into()),
        };
        Delta { entry, context: Context::default() }
    }

    fn id(n: u8) -> WriteId {
        // All in one stripe.
        let mut bytes = [0; 16];
        bytes[0] = n;
        WriteId::from_bytes(bytes)
    }

    const TABLE: TableId = TableId(1);

    #[test]
    fn finds_the_first_try_of_the_same_row_within_its_time() {
        let ids = WriteIds::new(1 << 20, 1000);
        ids.note(id(1), TABLE, Token(5), &delta(1, 10), Millis(100));
        ids.note(id(1), TABLE, Token(5), &delta(2, 10), Millis(100));
        let find = |table, token, now| ids.find(id(1), table, Token(token), Millis(now));
        assert_eq!(find(TABLE, 5, 200).as_deref(), Some(&delta(1, 10)));
        assert_eq!(find(TABLE, 6, 200), None);
        assert_eq!(find(TableId(2), 5, 200), None);
        assert_eq!(find(TABLE, 5, 1101), None);
        assert_eq!(ids.size(), (0, 0));
    }

    #[test]
    fn stays_within_its_bytes_and_forgets_the_oldest() {
        let ids = WriteIds::new(STRIPES * 2000, 1_000_000);
        for n in 1..=20 {
            ids.note(id(n), TABLE, Token(1), &delta(u64::from(n), 100), Millis(1));
            assert!(ids.size().1 <= 2000);
        }
        assert!(ids.find(id(1), TABLE, Token(1), Millis(1)).is_none());
        assert!(ids.find(id(20), TABLE, Token(1), Millis(1)).is_some());
        ids.note(id(21), TABLE, Token(1), &delta(21, 5000), Millis(1));
        assert!(ids.find(id(21), TABLE, Token(1), Millis(1)).is_none(), "larger than its part");
        assert!(ids.find(id(20), TABLE, Token(1), Millis(1)).is_some());
    }
}
