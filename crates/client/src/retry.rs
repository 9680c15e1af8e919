//! What may be tried again, and where.

use meridian_service::{Effect, Request, RequestError};

use crate::ClientError;

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Give the error to the caller.
    GiveUp,
    /// Ask the same node again: it knows the write id (design rule 11).
    SameNode,
    /// Ask another node.
    OtherNode,
}

/// Whether a request can change something.
pub(crate) fn writes(request: &Request) -> bool {
    match request {
        Request::Put(_)
        | Request::Delete(_)
        | Request::Touch(_)
        | Request::Batch(_)
        | Request::AtomicBatch(_)
        | Request::CreateKeyspace(_)
        | Request::CreateTable(_)
        | Request::AcceptLoss(_) => true,
        Request::InSession(inside) => writes(&inside.request),
        Request::Get(_)
        | Request::MultiGet(_)
        | Request::Scan(_)
        | Request::Replicas(_)
        | Request::DescribeTable(_)
        | Request::ListTables
        | Request::Cluster => false,
    }
}

/// Whether a request may be repeated although it may have been done already: its second answer is
/// then as good as its first, and what is stored the same.
///
/// A conditional put would find its own value; a delete that reports would find nothing; a touch
/// has no write id; a creation would say that the name is taken.
fn is_repeatable(request: &Request) -> bool {
    match request {
        Request::Put(put) => put.condition.is_none(),
        Request::Delete(delete) => !delete.report_existed,
        Request::Batch(_) | Request::AtomicBatch(_) => true,
        Request::InSession(inside) => is_repeatable(&inside.request),
        other => !writes(other),
    }
}

/// What an error allows.
pub(crate) fn after(request: &Request, error: &ClientError) -> Next {
    let repeatable = error.effect() == Effect::NotApplied || is_repeatable(request);
    match error {
        _ if !repeatable => Next::GiveUp,
        ClientError::Request(error) if !error.is_retryable() => Next::GiveUp,
        ClientError::Request(RequestError::Timeout { .. } | RequestError::Failed { .. }) => {
            Next::SameNode
        }
        ClientError::Request(_) | ClientError::NotReached { .. } | ClientError::NoAnswer { .. } => {
            Next::OtherNode
        }
        ClientError::Refused { .. }
        | ClientError::Malformed { .. }
        | ClientError::Endpoint { .. }
        | ClientError::TableName(_) => Next::GiveUp,
    }
}
