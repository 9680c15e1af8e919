//! A bound socket that lets in so many and no more, and waits for those inside when it closes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use meridian_telemetry::DoorMetrics;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Pause after a failed accept (the process is out of file descriptors, mostly), so that the door
/// does not spin until one is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One door's connections.
#[derive(Clone)]
pub(crate) struct Hall {
    places: Arc<Semaphore>,
    pub(crate) metrics: DoorMetrics,
    /// Cancelled when the node stops: finish what runs and leave.
    pub(crate) stopping: CancellationToken,
    /// Cancelled when the time to finish is over.
    pub(crate) evicted: CancellationToken,
    tasks: TaskTracker,
}

/// A connection's place; given back when dropped.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    metrics: DoorMetrics,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}

impl Hall {
    pub(crate) fn new(
        connections: usize,
        metrics: DoorMetrics,
        stopping: CancellationToken,
    ) -> Self {
        Self {
            places: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))),
            metrics,
            stopping,
            evicted: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    fn place(&self) -> Option<Place> {
        let permit = self.places.clone().try_acquire_owned().ok()?;
        self.metrics.accepted.inc();
        self.metrics.connections.inc();
        Some(Place { _permit: permit, metrics: self.metrics.clone() })
    }

    /// Lets connections in until the node stops. `welcome` serves one that has a place, `refuse`
    /// is what one without a place is told.
    pub(crate) fn open<F>(
        &self,
        listener: TcpListener,
        welcome: impl Fn(TcpStream, SocketAddr) -> F + Send + 'static,
        refuse: &'static [u8],
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let hall = self.clone();
        self.tasks.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = hall.stopping.cancelled() => return,
                };
                match accepted {
                    Ok((stream, peer)) => hall.admit(stream, peer, &welcome, refuse),
                    Err(error) => hall.accept_failed(&error).await,
                }
            }
        });
    }

    fn admit<F>(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        welcome: &impl Fn(TcpStream, SocketAddr) -> F,
        refuse: &'static [u8],
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(place) = self.place() else {
            self.metrics.refused.inc();
            // The socket's buffer is empty, so the refusal fits or the peer is gone already.
            if let Err(error) = stream.try_write(refuse) {
                tracing::debug!(%peer, "could not say that the door is full: {error}");
            }
            return;
        };
        // Answers are flushed whole, so waiting to fill a packet would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, "gone before it was served: {error}");
            return;
        }
        let serve = welcome(stream, peer);
        let evicted = self.evicted.clone();
        self.tasks.spawn(async move {
            let _place = place;
            tokio::select! {
                () = serve => {}
                () = evicted.cancelled() => {}
            }
        });
    }

    async fn accept_failed(&self, error: &io::Error) {
        tracing::warn!("a connection could not be accepted: {error}");
        tokio::select! {
            () = tokio::time::sleep(ACCEPT_PAUSE) => {}
            () = self.stopping.cancelled() => {}
        }
    }

    /// Waits until everybody left, or sends them away after `patience`.
    pub(crate) async fn close(&self, patience: Duration) {
        self.stopping.cancel();
        self.tasks.close();
        if tokio::time::timeout(patience, self.tasks.wait()).await.is_err() {
            tracing::warn!(left = self.tasks.len(), "connections did not finish in time");
            self.evicted.cancel();
            self.tasks.wait().await;
        }
    }
}
