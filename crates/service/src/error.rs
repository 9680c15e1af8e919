//! What goes wrong, once for all doors: each error says whether anything may have changed.

use std::fmt;

use meridian_crdt::{SessionTokenError, TokenError};
use meridian_types::{CatalogError, ConsistencyLevel, KeyError, TableName};

/// What a failed request did to the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing was written, and nothing will be.
    NotApplied,
    /// It may have been written on some replicas, and may still appear on others.
    Unknown,
}

impl Effect {
    /// The word that every door uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotApplied => "not_applied",
            Self::Unknown => "unknown",
        }
    }
}

/// A datacenter that cannot fulfil a level: fewer replicas are known to be alive than it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DcShortfall {
    /// The datacenter; `*` where the level counts over all of them.
    pub datacenter: String,
    /// How many replicas the level needs there.
    pub required: usize,
    /// How many are known to be alive.
    pub alive: usize,
    /// How many there are.
    pub replicas: usize,
}

/// How far a request came in one datacenter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DcTally {
    /// The datacenter.
    pub datacenter: String,
    /// How many replicas answered.
    pub acked: usize,
    /// How many the level needs there; 0 where it only counts over all of them.
    pub required: usize,
    /// How many there are.
    pub replicas: usize,
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// A part of the request is not allowed.
    #[error("{what}: {why}")]
    InvalidArgument {
        /// The part.
        what: &'static str,
        /// What is wrong with it, and what is allowed.
        why: String,
    },
    /// The key or value is not allowed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The causal context is not accepted.
    #[error(transparent)]
    Context(#[from] TokenError),
    /// The session's token is not accepted.
    #[error(transparent)]
    Session(#[from] SessionTokenError),
    /// No replica that can answer has everything that the session has seen.
    #[error(
        "at {level} no replica within reach has everything yet that the session has seen; nothing was written, try again later or on another node"
    )]
    SessionBehind {
        /// The level.
        level: ConsistencyLevel,
    },
    /// There is no such table.
    #[error("there is no table `{0}`; create it first")]
    UnknownTable(TableName),
    /// The catalog refuses a definition.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The level does not fit the request, or is not there yet.
    #[error("{level} {why}")]
    Level {
        /// The level.
        level: ConsistencyLevel,
        /// Why it does not fit.
        why: &'static str,
    },
    /// Too few replicas are known to be alive: refused before anything was sent.
    #[error("{level} cannot be met: {}; nothing was written", shortfalls(missing))]
    Unavailable {
        /// The level.
        level: ConsistencyLevel,
        /// Where replicas are missing, and how many.
        missing: Vec<DcShortfall>,
    },
    /// Too few replicas answered in time.
    #[error("{level} was not reached in time: {}{}", if acks.is_empty() { "it was too late to ask anybody".to_owned() } else { tallies(acks) }, if *write { "; the write may still appear" } else { "" })]
    Timeout {
        /// The level.
        level: ConsistencyLevel,
        /// Who answered, by datacenter.
        acks: Vec<DcTally>,
        /// Whether it was a write.
        write: bool,
    },
    /// Replicas answered with failures, so the level cannot be reached any more.
    #[error("{level} failed: {}; {why}{}", tallies(acks), if *write { "; the write may still appear" } else { "" })]
    Failed {
        /// The level.
        level: ConsistencyLevel,
        /// Who answered, by datacenter.
        acks: Vec<DcTally>,
        /// The first failure.
        why: String,
        /// Whether it was a write.
        write: bool,
    },
    /// A bound was reached; try again later.
    #[error("overloaded: {queue}: at most {limit}; nothing was written, try again later")]
    Overloaded {
        /// The queue, by its name in the table of bounds.
        queue: &'static str,
        /// Its bound.
        limit: usize,
    },
    /// The node's storage does not answer: a corrupt file, a full disk, a failed sync.
    #[error("storage: {why}")]
    Storage {
        /// What happened, with the file's name.
        why: String,
        /// Whether the request may have written something.
        effect: Effect,
    },
    /// A `siblings` table has several values where a door can show one only.
    #[error(
        "the key has {count} concurrent values; read it through REST, gRPC or `meridian get`, and write it with the context that comes with them"
    )]
    Siblings {
        /// How many values there are.
        count: usize,
    },
    /// The node is stopping.
    #[error("the node is stopping; nothing was written, ask another one")]
    Stopping,
}

/// The stable name of an error and its numbers at each door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode {
    /// `MER-nnnn`, described in `docs/errors.md`.
    pub id: &'static str,
    /// A word for programs.
    pub name: &'static str,
    /// HTTP status.
    pub http: u16,
    /// gRPC status code.
    pub grpc: u8,
    /// First word of the RESP error.
    pub resp: &'static str,
}

/// gRPC's numbers, as its specification has them.
mod grpc {
    pub(super) const INVALID_ARGUMENT: u8 = 3;
    pub(super) const DEADLINE_EXCEEDED: u8 = 4;
    pub(super) const NOT_FOUND: u8 = 5;
    pub(super) const ALREADY_EXISTS: u8 = 6;
    pub(super) const RESOURCE_EXHAUSTED: u8 = 8;
    pub(super) const FAILED_PRECONDITION: u8 = 9;
    pub(super) const ABORTED: u8 = 10;
    pub(super) const UNAVAILABLE: u8 = 14;
    pub(super) const DATA_LOSS: u8 = 15;
}

impl ErrorCode {
    /// A code from its id, name, HTTP status, gRPC status and RESP prefix.
    #[must_use]
    pub const fn new(
        id: &'static str,
        name: &'static str,
        http: u16,
        grpc: u8,
        resp: &'static str,
    ) -> Self {
        Self { id, name, http, grpc, resp }
    }

    /// Every code, in the order of their ids.
    pub const EVERY: [Self; 15] = [
        Self::new("MER-1001", "invalid_argument", 400, grpc::INVALID_ARGUMENT, "ERR"),
        Self::new("MER-1002", "key_or_value_refused", 400, grpc::INVALID_ARGUMENT, "ERR"),
        Self::new("MER-1003", "context_refused", 400, grpc::INVALID_ARGUMENT, "BADCONTEXT"),
        Self::new("MER-1004", "unknown_table", 404, grpc::NOT_FOUND, "NOTABLE"),
        Self::new("MER-1005", "catalog_refused", 409, grpc::ALREADY_EXISTS, "ERR"),
        Self::new("MER-1006", "level_refused", 400, grpc::INVALID_ARGUMENT, "ERR"),
        Self::new("MER-1007", "siblings", 409, grpc::FAILED_PRECONDITION, "SIBLINGS"),
        Self::new("MER-1008", "session_refused", 400, grpc::INVALID_ARGUMENT, "BADSESSION"),
        Self::new("MER-2001", "unavailable", 503, grpc::UNAVAILABLE, "UNAVAILABLE"),
        Self::new("MER-2002", "timeout", 504, grpc::DEADLINE_EXCEEDED, "TIMEOUT"),
        Self::new("MER-2003", "failed", 502, grpc::ABORTED, "FAILED"),
        Self::new("MER-2004", "overloaded", 429, grpc::RESOURCE_EXHAUSTED, "BUSY"),
        Self::new("MER-2005", "stopping", 503, grpc::UNAVAILABLE, "LOADING"),
        Self::new("MER-2006", "session_behind", 503, grpc::UNAVAILABLE, "BEHIND"),
        Self::new("MER-3001", "storage", 500, grpc::DATA_LOSS, "STORAGE"),
    ];
}

impl RequestError {
    /// The error's stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        let at = match self {
            Self::InvalidArgument { .. } => 0,
            Self::Key(_) => 1,
            Self::Context(_) => 2,
            Self::UnknownTable(_) => 3,
            Self::Catalog(_) => 4,
            Self::Level { .. } => 5,
            Self::Siblings { .. } => 6,
            Self::Session(_) => 7,
            Self::Unavailable { .. } => 8,
            Self::Timeout { .. } => 9,
            Self::Failed { .. } => 10,
            Self::Overloaded { .. } => 11,
            Self::Stopping => 12,
            Self::SessionBehind { .. } => 13,
            Self::Storage { .. } => 14,
        };
        ErrorCode::EVERY[at]
    }

    /// What the request did to the data.
    #[must_use]
    pub fn effect(&self) -> Effect {
        match self {
            Self::Timeout { write: true, .. } | Self::Failed { write: true, .. } => Effect::Unknown,
            Self::Storage { effect, .. } => *effect,
            _ => Effect::NotApplied,
        }
    }

    /// Whether the same request may succeed later without being changed. A retry of a write
    /// carries the same write id.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. }
                | Self::Timeout { .. }
                | Self::Failed { .. }
                | Self::Overloaded { .. }
                | Self::SessionBehind { .. }
                | Self::Stopping
        )
    }
}

fn shortfalls(missing: &[DcShortfall]) -> String {
    join(missing, |f, dc| {
        let DcShortfall { datacenter, required, alive, replicas } = dc;
        let place = if datacenter == "*" { "all datacenters together" } else { datacenter };
        write!(f, "{place} needs {required} of {replicas} replicas, {alive} alive")
    })
}

fn tallies(acks: &[DcTally]) -> String {
    join(acks, |f, dc| {
        let DcTally { datacenter, acked, required, replicas } = dc;
        write!(f, "{datacenter} {acked} of {replicas} answered")?;
        if *required > 0 { write!(f, " ({required} needed)") } else { Ok(()) }
    })
}

fn join<T>(items: &[T], one: impl Fn(&mut dyn fmt::Write, &T) -> fmt::Result) -> String {
    let mut out = String::new();
    for (n, item) in items.iter().enumerate() {
        if n > 0 {
            out.push_str(", ");
        }
        // Writing to a String does not fail.
        let _ = one(&mut out, item);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unavailable_datacenter_is_named_with_its_numbers() {
        let error = RequestError::Unavailable {
            level: ConsistencyLevel::EachQuorum,
            missing: vec![DcShortfall {
                datacenter: "eu".into(),
                required: 2,
                alive: 0,
                replicas: 3,
            }],
        };
        assert_eq!(
            error.to_string(),
            "EACH_QUORUM cannot be met: eu needs 2 of 3 replicas, 0 alive; nothing was written"
        );
        assert_eq!((error.effect(), error.code().id), (Effect::NotApplied, "MER-2001"));
    }

    #[test]
    fn a_write_that_timed_out_is_unknown_and_says_who_has_it() {
        let acks = vec![
            DcTally { datacenter: "us".into(), acked: 3, required: 2, replicas: 3 },
            DcTally { datacenter: "eu".into(), acked: 0, required: 2, replicas: 3 },
        ];
        let level = ConsistencyLevel::EachQuorum;
        let error = RequestError::Timeout { level, acks, write: true };
        assert_eq!(
            error.to_string(),
            "EACH_QUORUM was not reached in time: us 3 of 3 answered (2 needed), \
             eu 0 of 3 answered (2 needed); the write may still appear"
        );
        assert_eq!(error.effect(), Effect::Unknown);
    }

    #[test]
    fn codes_are_unique() {
        let mut ids: Vec<_> = ErrorCode::EVERY.iter().map(|c| c.id).collect();
        ids.dedup();
        assert_eq!(ids.len(), ErrorCode::EVERY.len());
        assert!(ids.is_sorted());
    }
}
