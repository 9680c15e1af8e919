//! Why a node does not start.

use std::path::PathBuf;

use meridian_store::{BatchError, HintError, StoreError};
use meridian_transport::TransportError;
use meridian_types::NodeId;

/// A node did not start. Its data is as it was.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The node is not in the topology.
    #[error("node {0} is not in the cluster's shape")]
    NoSuchNode(NodeId),
    /// The data directory cannot be made or opened.
    #[error("the data directory {path} cannot be used: {cause}")]
    DataDir {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The store does not open: another node's directory, a damaged file, a disk that fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The hints do not open.
    #[error(transparent)]
    Hints(#[from] HintError),
    /// The log of atomic batches does not open.
    #[error(transparent)]
    Batches(#[from] BatchError),
    /// The links do not start: the address is taken, or is none.
    #[error(transparent)]
    Links(#[from] TransportError),
    /// The machine gives no random numbers, which incarnations must be made of.
    #[error("the system gives no random numbers: {0}")]
    Randomness(getrandom::Error),
    /// The node was started outside of a tokio runtime.
    #[error("a node needs a tokio runtime to start on: {0}")]
    NoRuntime(tokio::runtime::TryCurrentError),
}

/// A node did not stop cleanly. What it acknowledged is as durable as its sync policy says; it will
/// replay its log when it starts.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// The store did not close.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The hints were not flushed.
    #[error(transparent)]
    Hints(#[from] HintError),
}
