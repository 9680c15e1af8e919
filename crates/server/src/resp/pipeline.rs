//! The commands of one connection that are under way, and their answers in order.
//!
//! A command is polled once where it was read: on one node most are done then, and cost no task,
//! no allocation and no wake-up. What has to wait moves into a set that is woken one by one.
//! Commands on different keys run at the same time; one whose key is in use by an earlier command
//! waits for it, so that a client reads what it wrote before on the same connection.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio_util::sync::ReusableBoxFuture;
use xxhash_rust::xxh3::xxh3_64;

use super::action::Work;
use super::reply::{Protocol, Reply};

/// Keys up to which a command runs beside others. One with more waits until it is alone, so that
/// what is compared for each command stays short.
pub(super) const KEYS_BESIDE_OTHERS: usize = 16;
/// Boxes that are kept for reuse.
const SPARE_BOXES: usize = 32;

/// How an answer is written, fixed when its command was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Envelope {
    pub(super) protocol: Protocol,
    /// Whether the client asked not to be answered.
    pub(super) silent: bool,
}

impl Envelope {
    fn put(self, reply: &Reply, out: &mut BytesMut) {
        if !self.silent {
            reply.encode(self.protocol, out);
        }
    }
}

/// What a command has in use while it runs.
pub(super) struct Claim<'k> {
    /// Hashes of its keys; more than [`KEYS_BESIDE_OTHERS`] claim all.
    pub(super) keys: &'k [u64],
    pub(super) writes: bool,
}

/// The place of one answer.
struct Slot {
    envelope: Envelope,
    reply: Option<Reply>,
}

/// A key in use.
struct Held {
    by: u64,
    /// Two keys of one hash only wait for each other without need.
    key: u64,
    writes: bool,
}

/// A command that waits for something.
struct Running<'a> {
    number: u64,
    work: Option<ReusableBoxFuture<'a, Reply>>,
}

impl<'a> Future for Running<'a> {
    type Output = (u64, Reply, Option<ReusableBoxFuture<'a, Reply>>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.work {
            Some(work) => work.poll(cx).map(|reply| (self.number, reply, self.work.take())),
            // Polled after its end, which the set never does.
            None => Poll::Pending,
        }
    }
}

/// See the module.
pub(super) struct Pipeline<'a> {
    slots: VecDeque<Slot>,
    /// The number of the first slot.
    first: u64,
    running: FuturesUnordered<Running<'a>>,
    held: Vec<Held>,
    /// The command that runs alone.
    alone: Option<u64>,
    spare: Vec<ReusableBoxFuture<'a, Reply>>,
}

impl<'a> Pipeline<'a> {
    pub(super) fn new() -> Self {
        Self {
            slots: VecDeque::new(),
            first: 0,
            running: FuturesUnordered::new(),
            held: Vec::new(),
            alone: None,
            spare: Vec::new(),
        }
    }

    /// Answers that are not written yet.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether work has to wait for a command before it.
    pub(super) fn must_wait(&self, work: &Work) -> bool {
        if self.running.is_empty() {
            return false;
        }
        let (writes, mut keys, mut in_use) = (work.writes(), 0, self.alone.is_some());
        work.each_key(|key| {
            keys += 1;
            if !in_use && keys <= KEYS_BESIDE_OTHERS {
                let key = xxh3_64(key);
                in_use = self.held.iter().any(|held| held.key == key && (held.writes || writes));
            }
        });
        in_use || keys > KEYS_BESIDE_OTHERS
    }

    /// Takes an answer that is there already.
    pub(super) fn answer(&mut self, envelope: Envelope, reply: Reply, out: &mut BytesMut) {
        if self.slots.is_empty() {
            self.first += 1;
            envelope.put(&reply, out);
        } else {
            self.slots.push_back(Slot { envelope, reply: Some(reply) });
        }
    }

    /// Starts work that need not wait.
    pub(super) fn start<F>(
        &mut self,
        cx: &mut Context<'_>,
        envelope: Envelope,
        claim: Claim<'_>,
        work: F,
        out: &mut BytesMut,
    ) where
        F: Future<Output = Reply> + Send + 'a,
    {
        let mut boxed = match self.spare.pop() {
            Some(mut boxed) => {
                boxed.set(work);
                boxed
            }
            None => ReusableBoxFuture::new(work),
        };
        if let Poll::Ready(reply) = boxed.poll(cx) {
            self.put_back(boxed);
            self.answer(envelope, reply, out);
            return;
        }
        let number = self.first + self.slots.len() as u64;
        let Claim { keys, writes } = claim;
        if keys.len() > KEYS_BESIDE_OTHERS {
            self.alone = Some(number);
        }
        self.held.extend(keys.iter().map(|&key| Held { by: number, key, writes }));
        self.slots.push_back(Slot { envelope, reply: None });
        self.running.push(Running { number, work: Some(boxed) });
    }

    fn put_back(&mut self, boxed: ReusableBoxFuture<'a, Reply>) {
        if self.spare.len() < SPARE_BOXES {
            self.spare.push(boxed);
        }
    }

    /// Is ready once a command has ended.
    pub(super) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ended = false;
        while let Poll::Ready(Some((number, reply, boxed))) = self.running.poll_next_unpin(cx) {
            ended = true;
            if let Some(boxed) = boxed {
                self.put_back(boxed);
            }
            self.held.retain(|held| held.by != number);
            if self.alone == Some(number) {
                self.alone = None;
            }
            let at = usize::try_from(number - self.first).unwrap_or(usize::MAX);
            if let Some(slot) = self.slots.get_mut(at) {
                slot.reply = Some(reply);
            }
        }
        if ended { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Writes the answers whose turn it is.
    pub(super) fn write_answers(&mut self, out: &mut BytesMut) {
        while let Some(Slot { envelope, reply: Some(reply) }) = self.slots.front() {
            envelope.put(reply, out);
            self.slots.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;
