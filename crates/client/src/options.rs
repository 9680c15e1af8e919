//! What a client is told.

use std::fmt;
use std::time::Duration;

use meridian_types::ConsistencyLevel;

/// How a client reaches a cluster, and how long it tries.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// gRPC doors as `host:port`, in the order in which they are asked: those of the own datacenter
    /// first. Only one is used at a time.
    pub endpoints: Vec<String>,
    /// How long a call may take, with all attempts. It travels with the request, so that no node
    /// works for a caller who has gone. Default 5 s.
    pub timeout: Duration,
    /// How long a connection may take to come about. Default 1 s: several fit a call.
    pub connect_timeout: Duration,
    /// Level of [`crate::Table`]'s calls. Default `LOCAL_QUORUM`.
    pub consistency: ConsistencyLevel,
    /// Most attempts of one call. Default 3. Endpoints that cannot be reached do not count until all
    /// were tried.
    pub attempts: u32,
    /// Pause before a node that refused is asked again; doubled with each further attempt. Default
    /// 20 ms.
    pub pause: Duration,
    /// How long an endpoint that could not be reached is asked after all others. Default 10 s: each
    /// look at it may cost a call [`Self::connect_timeout`].
    pub avoid: Duration,
    /// Largest answer that is read, in bytes. Default 64 MiB: a page or multi-get of many large
    /// values.
    pub answer_bytes: usize,
    /// The cluster's password, where it has one.
    pub password: Option<Password>,
}

impl ClientOptions {
    /// The defaults.
    #[must_use]
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(1),
            consistency: ConsistencyLevel::LocalQuorum,
            attempts: 3,
            pause: Duration::from_millis(20),
            avoid: Duration::from_secs(10),
            answer_bytes: 64 << 20,
            password: None,
        }
    }
}

/// A password. It does not show itself.
#[derive(Clone)]
pub struct Password(String);

impl Password {
    /// Its text, to be sent and for nothing else.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for Password {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}
