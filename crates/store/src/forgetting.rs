//! What a vnode remembers for those who forget (rules 8 and 12): under its lock, in memory.

use std::sync::Arc;

use meridian_crdt::{Entry, Evidence, Promise, Row, VnodeClock};
use meridian_lsm::Commit;
use meridian_types::{Hlc, Millis, Mutation, broken};

/// How long a promise waits at least before it is told, in milliseconds: by then the others
/// durably have the writes that it is about. A promise about the last moment is of no use to
/// anybody, as long as there are writes.
pub(crate) const PROMISE_AGE_MS: u64 = 500;

/// What is remembered of one vnode.
#[derive(Debug)]
pub(crate) struct Forgetting {
    said: Option<Box<Said>>,
    /// This life gives no stamp up to here to a write of the vnode any more.
    promised: Hlc,
    /// Whether its rows may have something to forget.
    debris: bool,
}

/// What was last said of it, and what will be said as soon as it is durable.
#[derive(Debug, Default)]
struct Said {
    clock: Arc<VnodeClock>,
    next_clock: Option<(Arc<VnodeClock>, Commit)>,
    promise: Promise,
    next_promise: Option<(Promise, Millis)>,
}

/// The part of a promise that all vnodes have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PromisedStamp {
    pub(crate) stamp: Hlc,
    pub(crate) now: Millis,
}

impl Default for Forgetting {
    /// What a start finds must be looked through once.
    fn default() -> Self {
        Self { said: None, promised: Hlc::ZERO, debris: true }
    }
}

impl Forgetting {
    pub(crate) fn promised(&self) -> Hlc {
        self.promised
    }

    pub(crate) fn has_debris(&self) -> bool {
        self.debris
    }

    /// Notes a row as it is stored.
    pub(crate) fn note(&mut self, row: &Row) {
        self.debris |= is_debris(row);
    }

    /// Notes the entry of a write.
    pub(crate) fn note_entry(&mut self, entry: &Entry) {
        self.debris |= passes(entry);
    }

    /// Notes whether something to forget is there or may be.
    pub(crate) fn set_debris(&mut self, debris: bool) {
        self.debris = debris;
    }

    /// What is durable of the vnode's clock now or was when somebody asked before, and the promise
    /// that was made then, if it is durable.
    pub(crate) fn say(
        &mut self,
        (clock, commit): (&Arc<VnodeClock>, Commit),
        next: Promise,
        now: Millis,
        is_durable: impl Fn(&Commit) -> bool,
        is_promise_durable: impl Fn(Hlc) -> bool,
    ) -> (VnodeClock, Promise) {
        self.promised = self.promised.max(next.stamp);
        let said = self.said.get_or_insert_default();
        if is_durable(&commit) || broken(Mutation::CountUnsyncedClocks) {
            (said.clock, said.next_clock) = (clock.clone(), None);
        } else if said.next_clock.as_ref().is_none_or(|(_, commit)| is_durable(commit)) {
            let before = said.next_clock.replace((clock.clone(), commit));
            said.clock = before.map_or_else(|| said.clock.clone(), |(clock, _)| clock);
        }
        match said.next_promise {
            Some((promise, made)) => {
                let is_of_age = now.since(made) >= PROMISE_AGE_MS || now < made;
                if is_of_age && is_promise_durable(promise.stamp) {
                    said.promise = promise;
                    said.next_promise = Some((next, now));
                }
            }
            None => said.next_promise = Some((next, now)),
        }
        (VnodeClock::clone(&said.clock), said.promise)
    }
}

/// Whether a row has something that may be forgotten some day: a marker, a value that expires, a
/// context.
pub(crate) fn is_debris(row: &Row) -> bool {
    !row.context().is_empty() || row.entries().iter().any(passes)
}

fn passes(entry: &Entry) -> bool {
    entry.value.is_none() || entry.expires.is_some()
}

/// What another replica said of a vnode.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) layout: u64,
    pub(crate) evidence: Arc<Evidence>,
}
