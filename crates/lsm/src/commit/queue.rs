//! What waits to be written: numbered, in order, in groups.

use super::Commit;
use crate::batch::WriteBatch;
use crate::error::Error;
use crate::key::Seqno;
use crate::wal::format::{CHUNK_HEADER, put_batch};

/// Number of a group: what is written and synced together. Wraps.
pub(crate) type Group = u32;

/// The batches of the group that gathers now.
pub(crate) struct CommitQueue {
    next: Seqno,
    /// Room for a chunk header, then the batches.
    buffer: Vec<u8>,
    /// How many they are.
    batches: u32,
    group: Group,
    /// The last seqno of the groups before.
    taken: Seqno,
    /// The WAL thread sleeps until it is notified.
    pub(super) idle: bool,
    /// As many batches as somebody who wants to write them waits for; 0 if nobody does.
    pub(super) wanted: u32,
    pub(super) stopping: bool,
    /// The disk is full: nothing is added to the buffer until it could be written.
    pub(super) full: Option<Error>,
}

/// A group on its way to the file.
pub(super) struct Taken {
    pub(super) chunk: Vec<u8>,
    pub(super) last: Seqno,
    pub(super) batches: u32,
    pub(super) group: Group,
}

impl CommitQueue {
    pub(super) fn new(last: Seqno) -> Self {
        Self {
            next: last + 1,
            buffer: vec![0; CHUNK_HEADER],
            batches: 0,
            group: 1,
            taken: last,
            idle: false,
            wanted: 0,
            stopping: false,
            full: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buffer.len() == CHUNK_HEADER
    }

    /// Bytes that wait, the chunk header's room included.
    pub(super) fn bytes(&self) -> usize {
        self.buffer.len()
    }

    pub(super) const fn batches(&self) -> u32 {
        self.batches
    }

    /// The last seqno given out.
    pub(crate) const fn last(&self) -> Seqno {
        self.next - 1
    }

    /// The group that a seqno given out is in: the one that gathers, or the one before it, which
    /// is on its way to the disk (or, as those before it, there).
    pub(super) const fn group_of(&self, seqno: Seqno) -> Group {
        if seqno > self.taken { self.group } else { self.group.wrapping_sub(1) }
    }

    /// Numbers a batch and copies it into the buffer.
    pub(crate) fn push(&mut self, batch: &WriteBatch) -> Commit {
        let first = self.next;
        put_batch(&mut self.buffer, first, batch.count(), batch.encoded());
        self.next += u64::from(batch.count());
        self.batches = self.batches.saturating_add(1);
        Commit::new(first, self.next - 1)
    }

    /// Takes the group, if there is one; the next one gathers in `spare`.
    pub(super) fn take(&mut self, spare: &mut Vec<u8>) -> Option<Taken> {
        if self.is_empty() {
            return None;
        }
        let chunk = std::mem::replace(&mut self.buffer, std::mem::take(spare));
        let batches = std::mem::take(&mut self.batches);
        let (last, group) = (self.last(), self.group);
        self.taken = last;
        self.group = group.wrapping_add(1);
        Some(Taken { chunk, last, batches, group })
    }

    /// Puts a group that was not written before what came since. Returns the buffer that is free
    /// now.
    pub(super) fn hand_back(&mut self, taken: Taken, last_written: Seqno) -> Vec<u8> {
        let mut chunk = taken.chunk;
        chunk.extend_from_slice(&self.buffer[CHUNK_HEADER..]);
        std::mem::swap(&mut self.buffer, &mut chunk);
        self.batches = self.batches.saturating_add(taken.batches);
        self.taken = last_written;
        chunk.truncate(CHUNK_HEADER);
        chunk
    }
}
