//! One connection through a proxy: for each direction a reader that takes bytes off the one socket
//! and dates their arrival, a bounded line of chunks, and a writer that lets them out in order.
//!
//! The end of a direction is a chunk like any other: it is delayed and held by a cut too.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::way::{Arrivals, Way};

/// Most bytes that one direction of a connection holds: at 75 ms this still carries 55 MB/s.
pub(super) const MAX_HELD_BYTES: usize = 4 << 20;

/// Most bytes of one chunk.
const CHUNK_BYTES: usize = 64 << 10;

/// What a chunk counts at least, so that many tiny chunks are bounded as well.
const MIN_CHUNK_COST: usize = 512;

/// How long a cut holds what is left of a connection that both ends have finished, before it is
/// dropped: nobody waits for it that long, and redials must not pile up.
const HELD_AFTER_END: Duration = Duration::from_secs(10);

/// Bytes on their way; none for the end of the direction.
struct Chunk {
    arrives: Instant,
    bytes: Bytes,
    way: Arc<Way>,
    /// Returns the room when the chunk is dropped.
    _room: Option<OwnedSemaphorePermit>,
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.way.let_go(self.bytes.len() as u64);
    }
}

/// One direction.
struct Direction {
    way: Arc<Way>,
    seed: u64,
}

pub(super) struct Connection {
    forward: Direction,
    backward: Direction,
    /// How many of the two readers have seen the end.
    ended: watch::Sender<u8>,
}

impl Connection {
    pub(super) fn new(forward: &Arc<Way>, backward: &Arc<Way>, seed: u64) -> Self {
        Self {
            forward: Direction { way: Arc::clone(forward), seed: seed ^ (1 << 62) },
            backward: Direction { way: Arc::clone(backward), seed: seed ^ (1 << 63) },
            ended: watch::Sender::new(0),
        }
    }

    /// Runs until both directions have ended, or the target does not answer.
    pub(super) async fn run<R, W, TR, TW>(
        self,
        client: (R, W),
        dial: impl Future<Output = io::Result<(TR, TW)>>,
    ) where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
        TR: AsyncRead + Unpin,
        TW: AsyncWrite + Unpin,
    {
        let (sender, receiver) = mpsc::unbounded_channel();
        let established = async {
            if !self.handshake().await {
                return;
            }
            let Ok((from_target, to_target)) = dial.await else { return };
            let (back_sender, back_receiver) = mpsc::unbounded_channel();
            tokio::join!(
                self.write(&self.forward, to_target, receiver),
                self.read(&self.backward, from_target, back_sender),
                self.write(&self.backward, client.1, back_receiver),
            );
        };
        let reading = async {
            self.read(&self.forward, client.0, sender).await;
            // The rest of the connection decides when it is over.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = established => {}
            () = reading => {}
        }
    }

    /// A connection is there after a round trip in which nothing was cut; false when the client
    /// gave up before.
    async fn handshake(&self) -> bool {
        for direction in [&self.forward, &self.backward] {
            if !self.opened(direction, 1).await {
                return false;
            }
            let latency = direction.way.conditions().latency;
            if !latency.is_zero() {
                sleep(latency).await;
            }
        }
        true
    }

    /// Waits while the way is cut; false when `ends` readers have seen the end long enough ago.
    async fn opened(&self, direction: &Direction, ends: u8) -> bool {
        if !direction.way.conditions().cut {
            return true;
        }
        let mut ended = self.ended.subscribe();
        let forgotten = async {
            // The sender is `self`, so it cannot be gone.
            let _ = ended.wait_for(|&n| n >= ends).await;
            sleep(HELD_AFTER_END).await;
        };
        tokio::select! {
            biased;
            () = direction.way.opened() => true,
            () = forgotten => false,
        }
    }

    async fn read(
        &self,
        direction: &Direction,
        mut from: impl AsyncRead + Unpin,
        line: mpsc::UnboundedSender<Chunk>,
    ) {
        let room = Arc::new(Semaphore::new(MAX_HELD_BYTES));
        let mut arrivals = Arrivals::new(direction.seed);
        let mut buffer = BytesMut::new();
        loop {
            let asked = u32::try_from(CHUNK_BYTES).unwrap_or(u32::MAX);
            let Ok(mut permit) = Arc::clone(&room).acquire_many_owned(asked).await else { break };
            // Small reads share an allocation.
            if buffer.capacity() < CHUNK_BYTES / 16 {
                buffer.reserve(CHUNK_BYTES);
            }
            // An error is an end like any other: what the far end gets to know is the same.
            let read = (&mut from).take(CHUNK_BYTES as u64).read_buf(&mut buffer).await;
            let length = read.unwrap_or(0);
            let over = CHUNK_BYTES.saturating_sub(length.max(MIN_CHUNK_COST));
            drop(permit.split(over));
            let chunk = Chunk {
                arrives: arrivals.next(Instant::now(), &direction.way.conditions()),
                bytes: buffer.split_to(length).freeze(),
                way: Arc::clone(&direction.way),
                _room: Some(permit),
            };
            direction.way.took(length as u64);
            if line.send(chunk).is_err() || length == 0 {
                break;
            }
        }
        self.ended.send_modify(|n| *n += 1);
    }

    async fn write(
        &self,
        direction: &Direction,
        mut to: impl AsyncWrite + Unpin,
        mut line: mpsc::UnboundedReceiver<Chunk>,
    ) {
        while let Some(chunk) = line.recv().await {
            if chunk.arrives > Instant::now() {
                sleep_until(chunk.arrives).await;
            }
            if !self.opened(direction, 2).await {
                return;
            }
            if chunk.bytes.is_empty() {
                break;
            }
            // The target is gone: its own direction ends as well and says so to the client.
            if to.write_all(&chunk.bytes).await.is_err() {
                return;
            }
            direction.way.passed(chunk.bytes.len() as u64);
        }
        // A socket that is closed already has the end.
        let _ = to.shutdown().await;
    }
}
