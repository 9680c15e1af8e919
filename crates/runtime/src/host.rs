//! What a node needs of the world around it: time, chance, tasks, threads, links.
//!
//! Everything else a node does is its own. So the same node runs on tokio and sockets
//! ([`TokioHost`](crate::TokioHost), [`Transport`](crate::Transport)) and in a simulated world,
//! where one thread plays all nodes and the same seed gives the same history.
//!
//! # A world of its own
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use meridian_runtime::{Host, Linker, Node, NodeOptions, Parts, StartError};
//! use meridian_store::{Batches, HintLimits, Hints, MAX_BATCH_BYTES, MemMetadata};
//! use meridian_telemetry::Metrics;
//! use meridian_vfs::MemFs;
//!
//! /// `options.store` has no workers, so that the node starts no thread.
//! async fn start(
//!     host: Arc<dyn Host>,
//!     links: Box<dyn Linker>,
//!     disk: &MemFs,
//!     metadata: &MemMetadata,
//!     options: NodeOptions,
//! ) -> Result<Node, StartError> {
//!     let parts = Parts {
//!         host,
//!         fs: Arc::new(disk.clone()),
//!         metadata: Arc::new(metadata.clone()),
//!         hints: Arc::new(Hints::in_memory(metadata, HintLimits::default())?),
//!         batches: Arc::new(Batches::in_memory(metadata, MAX_BATCH_BYTES)?),
//!         links,
//!     };
//!     Node::start_on(parts, options, Arc::new(Metrics::new())).await
//! }
//! ```
//!
//! [`Node::start_on`](crate::Node::start_on) is a task of the node's: it draws from the host, opens
//! the store on the stack of whoever polls it, waits for [`Linker::link`] and for nothing else. From
//! then on the world
//!
//! - polls the tasks that the node spawned, and does the works that it asked for with
//!   [`Host::block`], each once, in any order, on any thread;
//! - wakes sleepers once [`Host::now`] has come to their time;
//! - carries what [`Network::send`] took to the other node's [`Inbound::received`], and tells
//!   [`Inbound::link_changed`] of links that rise and fall, as `meridian-transport` promises both;
//! - drives the store, which has no threads: [`Node::store`](crate::Node::store), its log and its
//!   `poll_job`.
//!
//! A request is a call of [`Service::call`](meridian_service::Service::call): whatever polls it
//! runs the node's code. It belongs into a task that dies with the node, with the answer sent out
//! through a channel, so that a crash is seen by the client as a connection that broke.
//!
//! *Stop*: [`Node::stop`](crate::Node::stop) ends the loops, closes the links, answers requests that
//! still wait (a write's effect is unknown then), and closes the store. Tasks that were under way
//! end by themselves when they are polled next. *Crash*: forget the node's tasks, works and
//! sleepers, and drop the [`Node`](crate::Node); in any order. Nothing of it runs after that, and
//! nothing was made durable that was not before.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use meridian_transport::{Class, Handshake, Inbound, Peer, PeerState, PeerStats, SendRefused};
use meridian_types::{Incarnation, Millis, NodeId};

use crate::error::StartError;

/// Time, chance, tasks and threads.
///
/// Every method may be called from any thread, also from one that runs no task.
pub trait Host: Send + Sync + 'static {
    /// Wall-clock time, for stamps and expiry: may be wrong, may step.
    fn wall(&self) -> Millis;

    /// Time that never steps back, for deadlines, from anywhere.
    fn now(&self) -> Millis;

    /// 64 random bits. Those of two lives of a node, or of two nodes, must differ: incarnations
    /// are made of them.
    fn random(&self) -> u64;

    /// Runs a task beside the others, soon, and never on the caller's stack.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// Does a work that may wait for the disk, without keeping tasks from running, and never on the
    /// caller's stack. Works may be done at the same time and in any order. A host that ends drops
    /// the works that it has not begun.
    fn block(&self, work: Box<dyn FnOnce() + Send>);

    /// Ends when [`Self::now`] is at least `until`.
    fn sleep(&self, until: Millis) -> BoxFuture<'static, ()>;
}

/// Links to other nodes, with the promises of `meridian-transport`.
pub trait Network: Send + Sync + 'static {
    /// Changes whom this node talks to. Called for the first time when the node can answer: before
    /// that nothing may be told to its [`Inbound`].
    fn set_peers(&self, peers: Vec<Peer>);

    /// Sends a message; see `meridian_transport::Links::send`. Does not block, and nothing is
    /// received on the caller's stack.
    ///
    /// # Errors
    /// See [`SendRefused`]. The message will not be sent.
    fn send(&self, to: NodeId, class: Class, message: Bytes) -> Result<(), SendRefused>;

    /// The present life of a peer whose link is up.
    fn incarnation_of(&self, peer: NodeId) -> Option<Incarnation>;

    /// What went over the links, by peer.
    fn stats(&self) -> Vec<PeerStats>;

    /// All peers and their links.
    fn states(&self) -> Vec<PeerState>;

    /// Where other nodes reach this one, where that is an address.
    fn local_addr(&self) -> Option<SocketAddr>;

    /// Ends all links. Nothing is sent any more.
    fn close(self: Arc<Self>) -> BoxFuture<'static, ()>;
}

/// Makes a node's [`Network`], once its incarnation is known.
pub trait Linker: Send {
    /// Takes an address, or whatever others find this node by. Nobody is talked to before
    /// [`Network::set_peers`].
    fn link(
        self: Box<Self>,
        handshake: Handshake,
        inbound: Arc<dyn Inbound>,
    ) -> BoxFuture<'static, Result<Arc<dyn Network>, StartError>>;
}

/// A work was given up. What it had changed by then it has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it was given up: the node stops, or the work panicked")]
pub(crate) struct GivenUp;

impl dyn Host {
    /// Waits for some milliseconds.
    pub(crate) async fn pause(&self, millis: u64) {
        self.sleep(self.now().plus(millis)).await;
    }
}
