//! Messages that wait for one peer in one class, and the stream that takes them.
//!
//! The stream is polled by the connection's own task, which takes what waits as a frame and flushes
//! when there is nothing left: no task and no timer stands between `send` and the socket. One that
//! is sent while the socket is busy joins the next frame.

use std::collections::VecDeque;
use std::mem::take;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::Stream;
use meridian_wire::link::Frame;
use meridian_wire::v1;
use meridian_wire::v1::link_up::Item;
use parking_lot::Mutex;

use crate::{ClassStats, LinkOptions, SendRefused};

/// Bounds of one queue and its frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueBounds {
    messages: usize,
    bytes: usize,
    message_bytes: usize,
    frame_messages: usize,
    frame_bytes: usize,
}

impl From<&LinkOptions> for QueueBounds {
    fn from(options: &LinkOptions) -> Self {
        Self {
            messages: options.queue_messages,
            bytes: options.queue_bytes,
            message_bytes: options.message_bytes,
            frame_messages: options.frame_messages,
            frame_bytes: options.frame_bytes,
        }
    }
}

/// Messages that wait. They are taken only while a stream is attached and open.
#[derive(Debug)]
pub(crate) struct Queue {
    bounds: QueueBounds,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Which stream is attached; one with another number has ended.
    attached: u64,
    /// Whether the attached stream may carry messages: its handshake is done.
    open: bool,
    hello: Option<v1::Hello>,
    ping: Option<u64>,
    messages: VecDeque<Bytes>,
    bytes: usize,
    waker: Option<Waker>,
    stats: ClassStats,
}

impl Queue {
    pub(crate) fn new(bounds: QueueBounds) -> Arc<Self> {
        Arc::new(Self { bounds, inner: Mutex::default() })
    }

    /// Takes a message, if there is room for it.
    pub(crate) fn push(&self, message: Bytes) -> Result<(), SendRefused> {
        let (bytes, limit) = (message.len(), self.bounds.message_bytes);
        if bytes > limit {
            return Err(SendRefused::TooLarge { bytes, limit });
        }
        let mut inner = self.inner.lock();
        if !inner.open {
            inner.stats.refused_down += 1;
            return Err(SendRefused::Down);
        }
        let full = inner.messages.len() >= self.bounds.messages
            || inner.bytes.saturating_add(bytes) > self.bounds.bytes;
        if full && !inner.messages.is_empty() {
            inner.stats.refused_full += 1;
            return Err(SendRefused::Full);
        }
        inner.bytes += bytes;
        inner.messages.push_back(message);
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Attaches a new stream, whose first item is `hello`. A stream that was attached before ends.
    pub(crate) fn attach(self: &Arc<Self>, hello: v1::Hello) -> (Attached, QueueStream) {
        let (number, _dropped) = self.change(|inner| {
            let dropped = inner.end();
            inner.hello = Some(hello);
            inner.ping = None;
            (inner.attached, dropped)
        });
        (
            Attached { queue: Arc::clone(self), number },
            QueueStream { queue: Arc::clone(self), number },
        )
    }

    pub(crate) fn stats(&self) -> ClassStats {
        let inner = self.inner.lock();
        ClassStats {
            queued_messages: inner.messages.len(),
            queued_bytes: inner.bytes,
            ..inner.stats
        }
    }

    /// Changes something that the stream has to look at.
    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.inner.lock();
        let result = change(&mut inner);
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }
}

impl Inner {
    /// Ends the attached stream. The messages are given back, to be freed without the lock.
    fn end(&mut self) -> VecDeque<Bytes> {
        self.attached += 1;
        self.open = false;
        self.bytes = 0;
        self.stats.dropped_messages += self.messages.len() as u64;
        take(&mut self.messages)
    }

    /// The next frame of what waits; something must.
    fn frame(&mut self, bounds: &QueueBounds) -> Frame {
        let mut messages = Vec::with_capacity(self.messages.len().min(bounds.frame_messages));
        let mut bytes = 0;
        while let Some(message) = self.messages.front() {
            let joins = messages.is_empty() || bytes + message.len() <= bounds.frame_bytes;
            if !joins || messages.len() >= bounds.frame_messages {
                break;
            }
            bytes += message.len();
            messages.extend(self.messages.pop_front());
        }
        self.bytes -= bytes;
        self.stats.sent_frames += 1;
        self.stats.sent_messages += messages.len() as u64;
        self.stats.sent_bytes += bytes as u64;
        Frame { messages, excess: 0 }
    }
}

/// Holds a stream at its queue. Dropped, the stream ends and the messages that wait are dropped.
#[derive(Debug)]
pub(crate) struct Attached {
    queue: Arc<Queue>,
    number: u64,
}

impl Attached {
    /// The handshake is done: messages are taken from now on.
    pub(crate) fn open(&self) {
        self.change(|inner| {
            inner.open = true;
            inner.stats.opened += 1;
        });
    }

    /// Sends a ping, before what waits.
    pub(crate) fn ping(&self, number: u64) {
        self.change(|inner| inner.ping = Some(number));
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        self.queue.change(|inner| {
            if inner.attached == self.number {
                change(inner);
            }
        });
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let mut dropped = VecDeque::new();
        self.change(|inner| dropped = inner.end());
    }
}

/// What the node that dialed sends.
#[derive(Debug)]
pub(crate) struct QueueStream {
    queue: Arc<Queue>,
    number: u64,
}

impl Stream for QueueStream {
    type Item = v1::LinkUp;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<v1::LinkUp>> {
        let mut inner = self.queue.inner.lock();
        if inner.attached != self.number {
            return Poll::Ready(None);
        }
        let item = if let Some(hello) = inner.hello.take() {
            Item::Hello(hello)
        } else if let Some(number) = inner.ping.take() {
            Item::Ping(v1::Ping { number })
        } else if inner.messages.is_empty() {
            let waker = context.waker();
            if !inner.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
                inner.waker = Some(waker.clone());
            }
            return Poll::Pending;
        } else {
            Item::Frame(inner.frame(&self.queue.bounds))
        };
        Poll::Ready(Some(v1::LinkUp { item: Some(item) }))
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};

    use super::*;

    const BOUNDS: QueueBounds = QueueBounds {
        messages: 4,
        bytes: 10,
        message_bytes: 20,
        frame_messages: 3,
        frame_bytes: 8,
    };

    fn opened() -> (Arc<Queue>, Attached, QueueStream) {
        let queue = Queue::new(BOUNDS);
        let (attached, mut stream) = queue.attach(v1::Hello::default());
        assert!(matches!(next(&mut stream), Some(Item::Hello(_))));
        attached.open();
        (queue, attached, stream)
    }

    fn next(stream: &mut QueueStream) -> Option<Item> {
        stream.next().now_or_never().flatten().and_then(|up| up.item)
    }

    fn message(len: usize) -> Bytes {
        Bytes::from(vec![0; len])
    }

    fn lengths(item: Option<Item>) -> Vec<usize> {
        let Some(Item::Frame(frame)) = item else { panic!("{item:?}") };
        frame.messages.iter().map(Bytes::len).collect()
    }

    #[test]
    fn refuses_what_is_over_a_bound() {
        let (queue, _attached, mut stream) = opened();
        for _ in 0..4 {
            assert_eq!(queue.push(message(1)), Ok(()));
        }
        assert_eq!(queue.push(message(1)), Err(SendRefused::Full));
        assert_eq!(lengths(next(&mut stream)), [1, 1, 1]);
        assert_eq!(queue.push(message(10)), Err(SendRefused::Full));
        assert_eq!(queue.push(message(9)), Ok(()));
        let too_large = Err(SendRefused::TooLarge { bytes: 21, limit: 20 });
        assert_eq!(queue.push(message(21)), too_large);
        let stats = queue.stats();
        assert_eq!((stats.queued_messages, stats.queued_bytes, stats.refused_full), (2, 10, 2));
    }

    #[test]
    fn an_empty_queue_takes_a_message_over_its_bytes() {
        let (queue, _attached, mut stream) = opened();
        assert_eq!(queue.push(message(20)), Ok(()));
        assert_eq!(queue.push(message(0)), Err(SendRefused::Full));
        assert_eq!(lengths(next(&mut stream)), [20]);
    }

    #[test]
    fn frames_end_at_their_bounds() {
        let (queue, _attached, mut stream) = opened();
        for len in [4, 4, 1] {
            queue.push(message(len)).unwrap();
        }
        assert_eq!(lengths(next(&mut stream)), [4, 4]);
        for _ in 0..3 {
            queue.push(message(1)).unwrap();
        }
        assert_eq!(lengths(next(&mut stream)), [1, 1, 1]);
        assert_eq!(lengths(next(&mut stream)), [1]);
        assert_eq!(queue.stats().sent_frames, 3);
    }

    #[test]
    fn a_ping_passes_what_waits() {
        let (queue, attached, mut stream) = opened();
        queue.push(message(1)).unwrap();
        attached.ping(7);
        assert_eq!(next(&mut stream), Some(Item::Ping(v1::Ping { number: 7 })));
        assert_eq!(lengths(next(&mut stream)), [1]);
        assert_eq!(next(&mut stream), None);
    }

    #[test]
    fn what_waits_for_a_broken_stream_is_dropped_and_counted() {
        let (queue, attached, mut stream) = opened();
        queue.push(message(1)).unwrap();
        queue.push(message(2)).unwrap();
        drop(attached);
        assert_eq!(stream.next().now_or_never(), Some(None));
        assert_eq!(queue.push(message(1)), Err(SendRefused::Down));
        let stats = queue.stats();
        assert_eq!((stats.dropped_messages, stats.refused_down), (2, 1));
        assert_eq!((stats.queued_messages, stats.queued_bytes), (0, 0));
    }

    #[test]
    fn an_old_stream_takes_nothing_of_a_new_one() {
        let (queue, first, mut old) = opened();
        let (second, mut new) = queue.attach(v1::Hello::default());
        assert_eq!(queue.push(message(1)), Err(SendRefused::Down));
        drop(first);
        assert!(matches!(next(&mut new), Some(Item::Hello(_))));
        second.open();
        queue.push(message(1)).unwrap();
        assert_eq!(old.next().now_or_never(), Some(None));
        assert_eq!(lengths(next(&mut new)), [1]);
    }
}
