//! The way of a write.
//!
//! 1. Under the commit lock, and nothing else under it: the batch gets its seqnos, is copied into
//!    the WAL buffer, and the active memtables of its trees are picked (sealed first if full).
//! 2. Outside the lock the operations go into the memtables, from many threads at once.
//! 3. Batches become visible in seqno order: each waits for those before it, which are in step 2
//!    on other threads or done. So a reader that sees a batch sees everything older.
//! 4. The WAL thread swaps the buffer against an empty one and writes it as one chunk; the sync
//!    policy says when that is followed by a sync. Without a WAL thread, steps 4 and 1 happen on
//!    the writer's thread; with a driver, step 4 happens when that one is called.
//! 5. With `Always`, a waiter that finds the end of the log free writes and syncs what has
//!    gathered itself: alone, it is spared two changes of threads, a third of the time of a sync.
//!    Otherwise it sleeps; the group that gathered meanwhile is the WAL thread's, so that no
//!    writer works for others longer than for itself. All sleepers of a group are woken by one
//!    call.
//!
//! INVARIANT: the buffer holds batches in seqno order and is written whole, so the file is always
//! a prefix of the history. Lock order: WAL writer, then commit queue, then the waiting list.
//!
//! Rejected: only leaders and followers (each leader hands on to one of the next group): while
//! there are always more, a hand-over between writers costs what one to the WAL thread costs, and
//! callbacks ([`settle::OnSettled`]) have nobody to lead for them.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::batch::{WriteBatch, decode_op};
use crate::coding::Decoder;
use crate::db::Core;
use crate::error::Error;
use crate::key::{Seqno, ValueKind};
use crate::memtable::Memtable;
use crate::options::MAX_OPERAND_CHAIN;
use crate::sync::MutexGuard;
use crate::tree::Tree;
use queue::CommitQueue;

pub(crate) mod driver;
pub(crate) mod log;
mod queue;
pub(crate) mod settle;
pub(crate) mod visible;

/// A written batch: what to wait for. The default one is of no batch, and settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    first: Seqno,
    last: Seqno,
}

impl Commit {
    pub(crate) const fn new(first: Seqno, last: Seqno) -> Self {
        Self { first, last }
    }

    /// The seqno of its first operation.
    #[must_use]
    pub const fn first_seqno(&self) -> Seqno {
        self.first
    }

    /// The seqno of its last operation.
    #[must_use]
    pub const fn seqno(&self) -> Seqno {
        self.last
    }
}

/// Poisons the database if a writer goes down between its numbering and its publication: nobody
/// behind it could ever be published.
struct InFlight<'a> {
    core: &'a Core,
    done: bool,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.core.log.poison(Error::Poisoned {
                file: self.core.dir.clone(),
                cause: "a writer did not finish".to_owned(),
            });
        }
    }
}

type Targets = SmallVec<[(u32, Arc<Memtable>); 2]>;

impl Core {
    /// Steps 1 to 3 (and, without a WAL thread, 4).
    pub(crate) fn write(&self, batch: &WriteBatch) -> Result<Commit, Error> {
        batch.check()?;
        if batch.is_empty() {
            let visible = self.shared.visible();
            return Ok(Commit::new(visible, visible));
        }
        for tree in batch.trees() {
            if !tree.belongs_to(&self.shared) {
                return Err(Error::invalid(format!("{} is of another database", tree.name())));
            }
        }
        self.admit(batch.trees(), batch.bytes())?;
        let mut targets = Targets::new();
        let mut queue = self.log.queue()?;
        if let Some(gone) = batch.trees().iter().find(|tree| tree.is_dropped()) {
            return Err(Error::TreeDropped { tree: gone.name().to_owned() });
        }
        let segment = self.log.segment();
        for tree in batch.trees() {
            targets.push((tree.id(), self.active(tree, queue.last(), segment)));
        }
        self.relieve(queue.last());
        let commit = queue.push(batch);
        let mut flight = InFlight { core: self, done: false };
        self.log.unlock(queue)?;
        let deep = insert(batch, commit.first, &targets);
        self.publish(commit)?;
        flight.done = true;
        if deep {
            collapse(batch, commit);
        }
        Ok(commit)
    }

    /// Numbers and publishes a batch of which nothing goes into a memtable.
    pub(crate) fn push_empty(
        &self,
        mut queue: MutexGuard<'_, CommitQueue>,
        batch: &WriteBatch,
    ) -> Result<Commit, Error> {
        let commit = queue.push(batch);
        let mut flight = InFlight { core: self, done: false };
        self.log.unlock(queue)?;
        self.publish(commit)?;
        flight.done = true;
        Ok(commit)
    }

    /// The memtable that a batch numbered next goes into; under the commit lock.
    fn active(&self, tree: &Tree, last: Seqno, segment: u64) -> Arc<Memtable> {
        let mut active = tree.view().active.clone();
        if active.bytes() >= tree.config_ref().memtable_bytes {
            self.seal(tree, last);
            active = tree.view().active.clone();
        }
        active.note_segment(segment);
        active
    }

    /// Shows a batch that is in its memtables, once all before it are.
    fn publish(&self, commit: Commit) -> Result<(), Error> {
        self.shared.visible.publish(commit.first, commit.last, &|| self.log.check())
    }
}

/// Inserts every operation; says whether some key's chain of operands should be collapsed.
fn insert(batch: &WriteBatch, first: Seqno, targets: &Targets) -> bool {
    let mut decoder = Decoder::new(batch.encoded());
    let mut seqno = first;
    let mut deep = false;
    while let Ok(op) = decode_op(&mut decoder) {
        let target = targets.iter().find(|(tree, _)| *tree == op.tree);
        let (_, memtable) = target.expect("a batch lists the trees of its operations");
        let chain = memtable.insert(op.key, seqno, op.kind, op.value);
        deep |= is_deep(chain);
        seqno += 1;
    }
    deep
}

const fn is_deep(chain: u32) -> bool {
    chain > 0 && chain.is_multiple_of(MAX_OPERAND_CHAIN)
}

/// Collapses the chains that this batch made long. Amortised: one merge of `MAX_OPERAND_CHAIN`
/// operands for as many writes.
fn collapse(batch: &WriteBatch, commit: Commit) {
    let mut decoder = Decoder::new(batch.encoded());
    let mut seqno = commit.first;
    while let Ok(op) = decode_op(&mut decoder) {
        if op.kind == ValueKind::Merge
            && let Some(tree) = batch.trees().iter().find(|tree| tree.id() == op.tree)
        {
            tree.collapse_at(op.key, seqno);
        }
        seqno += 1;
    }
}
