//! Keeps hints, away from the data path: a thread takes them from a bounded queue and appends them
//! to the log, which waits for the disk.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use meridian_coordinator::PutEvent;
use meridian_coordinator::message::WriteDelta;
use meridian_store::{Hint, HintError, HintLog};
use meridian_types::NodeId;
use parking_lot::Mutex;

use crate::error::StartError;
use crate::in_flight::Call;
use crate::node::Inner;

/// Most hints that wait for the log. Beyond it a hint is dropped and counted: anti-entropy brings
/// its write, and user writes are never refused because hints are many.
pub(crate) const MAX_QUEUED: usize = 16_384;

/// Most hints that are appended before those who wait are told.
const BATCH: usize = 256;

enum Order {
    Store { target: NodeId, hint: Box<Hint>, call: Call, durable: bool },
    Stop,
}

/// Where hints are handed in.
pub(crate) struct HintKeeper {
    log: Arc<dyn HintLog>,
    queue: SyncSender<Order>,
    orders: Mutex<Option<Receiver<Order>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    dropped: AtomicU64,
}

impl HintKeeper {
    pub(crate) fn new(log: Arc<dyn HintLog>) -> Self {
        let (queue, orders) = sync_channel(MAX_QUEUED);
        Self {
            log,
            queue,
            orders: Mutex::new(Some(orders)),
            thread: Mutex::new(None),
            dropped: AtomicU64::new(0),
        }
    }

    /// Starts the thread. It stops at [`Self::stop`], or when the node is gone.
    pub(crate) fn start(&self, node: Weak<Inner>) -> Result<(), StartError> {
        let Some(orders) = self.orders.lock().take() else { return Ok(()) };
        let log = Arc::clone(&self.log);
        let thread = std::thread::Builder::new()
            .name("hints".to_owned())
            .spawn(move || keep(&*log, &orders, &node))
            .map_err(StartError::Thread)?;
        *self.thread.lock() = Some(thread);
        Ok(())
    }

    /// Hands a hint in. Whoever coordinates `call` is told when it is kept, and durable where that
    /// matters: a level that counts hints.
    pub(crate) fn store(&self, target: NodeId, write: WriteDelta, call: Call, durable: bool) {
        let hint = Box::new(Hint {
            row: write.row,
            delta: write.delta,
            write_id: write.write_id,
            created: crate::clock::now(),
        });
        let order = Order::Store { target, hint, call, durable };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.queue.try_send(order)
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
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

    pub(crate) fn log(&self) -> &Arc<dyn HintLog> {
        &self.log
    }

    /// Appends what was handed in, and stops the thread.
    pub(crate) fn stop(&self) -> Result<(), HintError> {
        // A queue without a receiver has stopped already.
        drop(self.queue.send(Order::Stop));
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that keeps hints panicked");
        }
        self.log.flush()
    }
}

fn keep(log: &dyn HintLog, orders: &Receiver<Order>, node: &Weak<Inner>) {
    let mut kept: Vec<(Call, NodeId)> = Vec::new();
    while let Ok(first) = orders.recv() {
        let mut durable = false;
        let mut stop = false;
        let mut targets = BTreeMap::<NodeId, usize>::new();
        let batch = std::iter::once(first).chain(orders.try_iter().take(BATCH - 1));
        for order in batch {
            let Order::Store { target, hint, call, durable: waits } = order else {
                stop = true;
                break;
            };
            match log.append(target, &hint) {
                Ok(_) => {
                    *targets.entry(target).or_insert(0) += 1;
                    durable |= waits;
                    if waits {
                        kept.push((call, target));
                    }
                }
                Err(error) => fail(node, &error),
            }
        }
        if durable && let Err(error) = log.flush() {
            fail(node, &error);
            kept.clear();
        }
        let Some(node) = node.upgrade() else { return };
        for (target, hints) in targets {
            node.peers.hints_kept(target, hints);
            node.control.tell_hints_kept(target);
        }
        for (call, target) in kept.drain(..) {
            node.step_put(call, PutEvent::HintStored { target });
        }
        if stop {
            return;
        }
    }
}

fn fail(node: &Weak<Inner>, error: &HintError) {
    tracing::error!(%error, "a hint could not be kept");
    if let Some(node) = node.upgrade() {
        node.note_failure(error.to_string());
    }
}
