//! What a command comes to, once it is understood.

use bytes::Bytes;
use meridian_service::{Get, Put, Request, Scan, Touch};
use meridian_types::{ConsistencyLevel, TableName};

use super::reply::Reply;

/// What to do with a command.
#[derive(Debug)]
pub(super) enum Action {
    /// Answer at once.
    Reply(Reply),
    /// Ask the service, then answer.
    Run(Work),
    /// Answer, then close the connection.
    Quit,
}

/// What to ask the service.
#[derive(Debug)]
pub(super) enum Work {
    /// One request.
    Ask(Request, Shape),
    /// `SET ... GET`: reads the old value, then writes. The two are not one atomic step.
    Swap(Put),
    /// Deletes keys, each on its own, and counts those that had a value.
    Delete {
        /// The table.
        table: TableName,
        /// The keys.
        keys: Vec<Bytes>,
        /// The level of each.
        consistency: ConsistencyLevel,
    },
    /// Changes an expiry if the present one allows it.
    TouchIf(Touch, TouchRule),
    /// A page of keys.
    Scan(Scan, Filter),
    /// What `INFO` shows, with the rows of this table.
    Info(TableName, InfoParts),
}

/// How an outcome becomes a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// The value, or null.
    Value,
    /// The length of the value, 0 without one.
    Length,
    /// `OK`.
    Done,
    /// `OK`, or null where the condition did not hold.
    DoneIf,
    /// 1, or 0 where the condition did not hold.
    Applied,
    /// The values, null for those that are missing.
    Values,
    /// `OK` if every write succeeded.
    AllDone,
    /// How many of the keys have a value.
    Present,
    /// 1 if there was a value to change, 0 otherwise.
    Existed,
    /// 1 if something changed, 0 otherwise.
    Changed,
    /// Time until the expiry, or the time of it.
    Expiry(ExpiryShape),
    /// `string` or `none`.
    Type,
    /// The estimated number of rows.
    Rows,
}

/// How an expiry is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExpiryShape {
    /// Seconds from now, rounded as Redis does.
    Seconds,
    /// Milliseconds from now.
    Millis,
    /// Seconds since the Unix epoch.
    AtSeconds,
    /// Milliseconds since the Unix epoch.
    AtMillis,
}

/// When `EXPIRE` and its kin change an expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TouchRule {
    /// Only if there is none.
    None,
    /// Only if there is one.
    Some,
    /// Only if the new one is later. No expiry counts as never.
    Later,
    /// Only if the new one is sooner.
    Sooner,
}

/// What `SCAN` lets through.
#[derive(Debug, Default)]
pub(super) struct Filter {
    /// `MATCH`.
    pub(super) pattern: Option<Bytes>,
    /// `TYPE` with something that no key is.
    pub(super) nothing: bool,
}

/// Which parts of `INFO` are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct InfoParts {
    pub(super) server: bool,
    pub(super) clients: bool,
    pub(super) replication: bool,
    pub(super) keyspace: bool,
}

impl Work {
    /// Whether it writes.
    pub(super) fn writes(&self) -> bool {
        match self {
            Self::Ask(request, _) => {
                matches!(
                    request,
                    Request::Put(_)
                        | Request::Delete(_)
                        | Request::Touch(_)
                        | Request::Batch(_)
                        | Request::AtomicBatch(_)
                )
            }
            Self::Swap(_) | Self::Delete { .. } | Self::TouchIf(..) => true,
            Self::Scan(..) | Self::Info(..) => false,
        }
    }

    /// Shows every key that it reads or writes. A scan has none: it promises no order with the
    /// commands around it.
    pub(super) fn each_key(&self, mut see: impl FnMut(&[u8])) {
        match self {
            Self::Ask(request, _) => match request {
                Request::Get(Get { key, .. }) | Request::Replicas(Get { key, .. }) => see(key),
                Request::Put(put) => see(&put.item.key),
                Request::Delete(delete) => see(&delete.key),
                Request::Touch(touch) => see(&touch.key),
                Request::MultiGet(get) => get.keys.iter().for_each(|key| see(key)),
                Request::Batch(batch) => batch.items.iter().for_each(|item| see(&item.key)),
                _ => {}
            },
            Self::Swap(put) => see(&put.item.key),
            Self::Delete { keys, .. } => keys.iter().for_each(|key| see(key)),
            Self::TouchIf(touch, _) => see(&touch.key),
            Self::Scan(..) | Self::Info(..) => {}
        }
    }
}
