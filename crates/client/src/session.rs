//! A session: what one user does, in the order in which it is done, on whichever node it is asked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use meridian_service::{InSession, Request};
use tokio::sync::Semaphore;

use crate::{Client, ClientError, Table};

/// A session. Its requests are shown what it wrote and what it was shown before, and what it writes
/// comes after that, at every level and on whichever node serves them.
///
/// It keeps its tokens by itself. Clones are the same session. Requests that run beside each other
/// are shown what was there when they began; at most [`InSession::MAX_TOKENS`] do so at once,
/// further ones wait.
#[derive(Clone)]
pub struct Session {
    client: Client,
}

impl Session {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// A client whose reads and writes of keys, and pages, are all part of the session.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// A table, read and written in the session.
    ///
    /// # Errors
    /// A name that no table has.
    pub fn table(&self, name: &str) -> Result<Table, ClientError> {
        self.client.table(name)
    }

    /// The session's tokens, to go on with it elsewhere: [`Client::session_from`]. None as long as
    /// nothing was asked.
    #[must_use]
    pub fn tokens(&self) -> Vec<Bytes> {
        self.client.session_tokens()
    }
}

/// What a session's clients share.
pub(crate) struct Kept {
    /// INVARIANT: at most as many as requests may run at once. A request that began after a token
    /// came takes that token away with its end, and of the others only so many are left.
    tokens: Mutex<Vec<Bytes>>,
    pub(crate) room: Semaphore,
}

impl Kept {
    pub(crate) fn new(tokens: Vec<Bytes>) -> Arc<Self> {
        let room = Semaphore::new(InSession::MAX_TOKENS);
        Arc::new(Self { tokens: Mutex::new(tokens), room })
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Bytes>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tokens(&self) -> Vec<Bytes> {
        self.locked().clone()
    }

    /// Keeps the token of an answer instead of those that its request was sent with.
    pub(crate) fn answered(&self, sent: &[Bytes], token: Bytes) {
        let mut tokens = self.locked();
        tokens.retain(|known| !sent.contains(known));
        tokens.push(token);
    }
}

/// Whether a request can be part of a session.
pub(crate) fn is_part(request: &Request) -> bool {
    matches!(
        request,
        Request::Get(_)
            | Request::Put(_)
            | Request::Delete(_)
            | Request::Touch(_)
            | Request::MultiGet(_)
            | Request::Batch(_)
            | Request::Scan(_)
    )
}
