//! The one door: what may be asked of a node, and what it answers.
//!
//! Three front ends (RESP, REST, gRPC) translate into [`Request`]; whoever serves them implements
//! [`Service`]; a node that is no replica hands the same request on to one that is.
//!
//! Knows: `Request`, `Outcome`, `RequestError`.
//! Must not know: who knocked, how it is served.
#![deny(missing_docs)]

mod error;
mod outcome;
mod request;

pub use error::{DcShortfall, DcTally, Effect, ErrorCode, RequestError};
pub use outcome::{
    BatchOutcome, ClusterView, DcView, GetOutcome, NodeView, Outcome, PutOutcome, ReadValue,
    ReplicaRow, ScanOutcome, ScanRow, SessionOutcome, TableView, TouchOutcome,
};
pub use request::{
    AcceptLoss, AtomicBatch, Batch, CallContext, Condition, CreateKeyspace, CreateTable, Delete,
    Expiry, Get, InSession, MultiGet, Put, PutItem, Request, Scan, TableWrite, Touch,
    WriteCondition,
};

use std::future::Future;

/// Serves requests. Implemented by the node's runtime, by clients of other nodes, and by fakes in
/// tests.
pub trait Service: Send + Sync + 'static {
    /// Serves one request.
    ///
    /// # Errors
    /// See [`RequestError`]; each says whether anything may have changed.
    fn call(
        &self,
        context: CallContext,
        request: Request,
    ) -> impl Future<Output = Result<Outcome, RequestError>> + Send;
}
