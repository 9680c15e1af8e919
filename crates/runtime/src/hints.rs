//! Keeps hints, away from the data path: they wait in a bounded queue, and one work at a time
//! appends them to the log, which waits for the disk.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use meridian_coordinator::PutEvent;
use meridian_coordinator::message::WriteDelta;
use meridian_node::{AntiEntropyEvent, NodeEvent};
use meridian_store::{Hint, HintError, HintLog, Undelivered};
use meridian_types::NodeId;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::control::ControlEvent;
use crate::in_flight::Call;
use crate::node::Inner;

/// Most hints that wait for the log. Beyond it a hint is dropped and counted: anti-entropy brings
/// its write, and user writes are never refused because hints are many.
pub(crate) const MAX_QUEUED: usize = 16_384;

/// Most bytes of them: an eighth of what the log keeps on disk.
pub(crate) const MAX_QUEUED_BYTES: usize = 128 << 20;

/// What a hint weighs beside its key and value.
const HINT_WEIGHT: usize = 256;

/// Most hints that are appended before those who wait are told.
const BATCH: usize = 256;

/// A hint on its way to the log.
struct Order {
    target: NodeId,
    hint: Box<Hint>,
    bytes: usize,
    call: Call,
    durable: bool,
}

/// Where hints are handed in.
pub(crate) struct HintKeeper {
    log: Arc<dyn HintLog>,
    queue: Mutex<Queue>,
    /// Told when nothing appends any more.
    idle: Notify,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Queue {
    orders: VecDeque<Order>,
    /// What the orders weigh.
    bytes: usize,
    /// Whether a work is on its way that will look here again.
    running: bool,
    stopped: bool,
    /// Hints that found no room.
    given_up: Undelivered,
}

impl HintKeeper {
    pub(crate) fn new(log: Arc<dyn HintLog>) -> Self {
        let (queue, idle) = (Mutex::default(), Notify::new());
        Self { log, queue, idle, dropped: AtomicU64::new(0) }
    }

    /// Hands a hint in. Whoever coordinates `call` is told when it is kept, and durable where that
    /// matters: a level that counts hints.
    pub(crate) fn store(
        &self,
        node: &Arc<Inner>,
        target: NodeId,
        write: WriteDelta,
        call: Call,
        durable: bool,
    ) {
        let WriteDelta { row, delta, write_id, .. } = write;
        let hint = Box::new(Hint { row, delta, write_id, created: node.host.wall() });
        let value = hint.delta.entry.value.as_ref().map_or(0, Bytes::len);
        let bytes = HINT_WEIGHT + hint.row.key.len() + value;
        let mut queue = self.queue.lock();
        let full = queue.orders.len() == MAX_QUEUED || queue.bytes + bytes > MAX_QUEUED_BYTES;
        if queue.stopped || full {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            // Told by the work that makes room.
            queue.given_up.entry(target).or_default().insert(Some(hint.row.keyspace));
            return;
        }
        queue.bytes += bytes;
        queue.orders.push_back(Order { target, hint, bytes, call, durable });
        let first = !std::mem::replace(&mut queue.running, true);
        drop(queue);
        if first {
            append_next(node);
        }
    }

    /// How many hints wait, by target.
    pub(crate) fn counts(&self) -> BTreeMap<NodeId, u64> {
        self.log.counts()
    }

    /// Hints that were dropped because the queue was full.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Hints that are not in the log yet.
    pub(crate) fn queued(&self) -> usize {
        self.queue.lock().orders.len()
    }

    /// Where hints were given up since this was last asked, for whatever reason.
    fn take_given_up(&self) -> Undelivered {
        let mut given_up = std::mem::take(&mut self.queue.lock().given_up);
        for (target, keyspaces) in self.log.take_undelivered() {
            given_up.entry(target).or_default().extend(keyspaces);
        }
        given_up
    }

    pub(crate) fn log(&self) -> &Arc<dyn HintLog> {
        &self.log
    }

    /// Takes no more hints, and waits until nothing appends any.
    pub(crate) async fn stopped(&self) {
        self.queue.lock().stopped = true;
        loop {
            let idle = self.idle.notified();
            if !self.queue.lock().running {
                return;
            }
            idle.await;
        }
    }

    /// Appends what is left, and makes the log durable. Waits for the disk.
    pub(crate) fn flush_rest(&self, node: &Arc<Inner>) -> Result<(), HintError> {
        while self.append_batch(node) {}
        self.log.flush()
    }

    /// Ends a turn, or goes on to the next one.
    fn give_back(&self, goes_on: impl FnOnce(&Queue) -> bool) -> bool {
        let mut queue = self.queue.lock();
        queue.running = goes_on(&queue);
        if !queue.running {
            self.idle.notify_waiters();
        }
        queue.running
    }

    /// Appends a batch, and tells those who wait; whether there are more.
    fn append_batch(&self, node: &Arc<Inner>) -> bool {
        let batch: Vec<Order> = {
            let mut queue = self.queue.lock();
            let most = queue.orders.len().min(BATCH);
            let batch: Vec<Order> = queue.orders.drain(..most).collect();
            queue.bytes -= batch.iter().map(|order| order.bytes).sum::<usize>();
            batch
        };
        let mut waiting: Vec<(Call, NodeId)> = Vec::new();
        let mut targets = BTreeMap::<NodeId, usize>::new();
        for Order { target, hint, call, durable, bytes: _ } in batch {
            match self.log.append(target, &hint) {
                Ok(_) => {
                    *targets.entry(target).or_insert(0) += 1;
                    if durable {
                        waiting.push((call, target));
                    }
                }
                Err(error) => failed(node, &error),
            }
        }
        if !waiting.is_empty()
            && let Err(error) = self.log.flush()
        {
            failed(node, &error);
            waiting.clear();
        }
        node.tell_given_up();
        for (target, hints) in targets {
            node.peers.hints_kept(target, hints);
            node.control.tell_hints_kept(target);
        }
        for (call, target) in waiting {
            node.step_put(call, PutEvent::HintStored { target });
        }
        !self.queue.lock().orders.is_empty()
    }
}

/// Appends the next batch, as a work, and the one after it as another.
fn append_next(node: &Arc<Inner>) {
    let turn = Turn { node: Arc::clone(node), ended: false };
    node.host.block(Box::new(move || {
        turn.node.hints.append_batch(&turn.node);
        turn.end();
    }));
}

/// The right to append: one at a time. Given back also when the work panics or is never done.
struct Turn {
    node: Arc<Inner>,
    ended: bool,
}

impl Turn {
    fn end(mut self) {
        self.ended = true;
        if self.node.hints.give_back(|queue| !queue.orders.is_empty()) {
            append_next(&self.node);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.ended {
            self.node.hints.give_back(|_| false);
        }
    }
}

impl Inner {
    /// Lets the replicas compare for which hints were given up.
    pub(crate) fn tell_given_up(&self) {
        for (peer, keyspaces) in self.hints.take_given_up() {
            for keyspace in keyspaces {
                let given_up = AntiEntropyEvent::HintsGivenUp { peer, keyspace };
                self.control.tell(ControlEvent::Node(NodeEvent::AntiEntropy(given_up)));
            }
        }
    }
}

fn failed(node: &Inner, error: &HintError) {
    tracing::error!(%error, "a hint could not be kept");
    node.note_failure(error.to_string());
}
