//! What can be chosen about the doors, and their bounds.

use std::net::SocketAddr;
use std::time::Duration;

use meridian_types::{ConsistencyLevel, Limits};

use crate::Password;

/// The doors to open. Port 0 takes a free one; [`crate::Doors::addresses`] says which.
#[derive(Clone, Debug)]
pub struct DoorsOptions {
    /// Where RESP listens; `None` keeps this door shut.
    pub resp: Option<SocketAddr>,
    /// Where REST listens, with `/metrics` and `/health`.
    pub rest: Option<SocketAddr>,
    /// Where gRPC listens.
    pub grpc: Option<SocketAddr>,
    /// The level of requests that name none.
    pub default_consistency: ConsistencyLevel,
    /// The keyspace of RESP's numbered databases: `SELECT 3` is its table `db3`.
    pub resp_keyspace: String,
    /// Whether a numbered database's table (and its keyspace) is created, last writer wins, by the
    /// first command that misses it. Without this, such a command is answered with `NOTABLE`.
    pub resp_create_databases: bool,
    /// What clients must show: `AUTH` on RESP, `authorization: Bearer` on the others.
    pub password: Option<Password>,
    /// Whether an address that other machines reach may be opened without a password.
    pub allow_public_without_password: bool,
    /// The bounds.
    pub limits: DoorLimits,
}

impl Default for DoorsOptions {
    fn default() -> Self {
        Self {
            resp: None,
            rest: None,
            grpc: None,
            default_consistency: ConsistencyLevel::LocalQuorum,
            resp_keyspace: "redis".to_owned(),
            resp_create_databases: true,
            password: None,
            allow_public_without_password: false,
            limits: DoorLimits::DEFAULT,
        }
    }
}

/// What clients can make a node keep, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoorLimits {
    /// Sizes of keys, values, batches and pages.
    pub data: Limits,
    /// Open connections, for each door. Each costs a task and, while it is used, a read buffer.
    pub connections: usize,
    /// Bytes of one request: a RESP command, an HTTP body, a gRPC message.
    pub request_bytes: usize,
    /// Bytes of an inline RESP command, as Redis has it.
    pub inline_bytes: usize,
    /// Commands of one RESP connection that are not answered yet. What comes behind waits in the
    /// socket.
    pub pipeline: usize,
    /// Streams of one HTTP/2 connection, and so requests of it that run at the same time.
    pub streams: u32,
    /// Rows of a page that names no limit.
    pub default_page_rows: usize,
    /// How long a request may take that names no timeout.
    pub default_timeout: Duration,
    /// The longest timeout that a request may name; a longer one is cut to it.
    pub max_timeout: Duration,
    /// How long a client may take to send the head of an HTTP request.
    pub head_timeout: Duration,
    /// How long closing waits for requests that run.
    pub drain: Duration,
}

impl DoorLimits {
    /// 10,000 connections, 32 MiB a request, 256 commands in a pipeline, 5 s (at most 60 s).
    pub const DEFAULT: Self = Self {
        data: Limits::DEFAULT,
        connections: 10_000,
        request_bytes: 32 << 20,
        inline_bytes: 64 << 10,
        pipeline: 256,
        streams: 256,
        default_page_rows: 100,
        default_timeout: Duration::from_secs(5),
        max_timeout: Duration::from_secs(60),
        head_timeout: Duration::from_secs(10),
        drain: Duration::from_secs(10),
    };
}

impl Default for DoorLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Where the doors listen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DoorAddresses {
    /// RESP's address.
    pub resp: Option<SocketAddr>,
    /// REST's address.
    pub rest: Option<SocketAddr>,
    /// gRPC's address.
    pub grpc: Option<SocketAddr>,
}
