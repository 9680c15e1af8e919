//! Sessions on this node: what a request of one must meet, and what it has seen by its end.
//!
//! A reader at any level gets its answer from somebody whose clock has everything that the session
//! has seen of the vnode; a write gets its dot from a replica that has it. Whoever lacks something
//! waits a little for it, and then leaves it to others. See `docs/consistency.md`.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, Either, select};
use meridian_coordinator::message::PageRequest;
use meridian_crdt::{
    Context, Demand, Dot, Session, SessionLimits, SessionToken, SessionTokenError, TokenKey,
};
use meridian_service::{CallContext, InSession, Outcome, Request, RequestError, SessionOutcome};
use meridian_store::Awaited;
use meridian_types::{KeyspaceId, Millis, VnodeId};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::node::Inner;
use crate::serve::Handed;

/// How long a replica that is behind waits for what a session has seen: a few times what a write
/// takes to the other replicas of a datacenter, and less than a reader waits before it asks one more.
pub(crate) const SESSION_WAIT_MS: u64 = 50;

/// The session that a request is part of, where it is part of one.
pub(crate) type Sessional<'a> = Option<&'a OpenSession>;

/// A session while one of its requests is served. The parts of a request may run beside each other.
pub(crate) struct OpenSession {
    seen: Mutex<Session>,
    limits: SessionLimits,
}

/// What must be met before something of a vnode is shown, or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Nothing,
    /// Whoever answers has these.
    Dots(Arc<Context>),
    /// The session has forgotten what it saw: all replicas are asked.
    Everything,
}

impl OpenSession {
    fn open(
        key: &TokenKey,
        tokens: &[Bytes],
        limits: SessionLimits,
    ) -> Result<Self, SessionTokenError> {
        let mut seen = Session::default();
        for token in tokens {
            seen.join(&SessionToken::open(key, token)?);
        }
        Ok(Self { seen: Mutex::new(seen), limits })
    }

    /// For its next request, or for another node that serves a part of this one.
    pub(crate) fn seal(&self, key: &TokenKey) -> Bytes {
        let mut seen = self.seen.lock();
        seen.trim(self.limits);
        SessionToken::seal(key, &seen).into_bytes().into()
    }

    /// Adds what another node has added for a part of this request.
    pub(crate) fn join(&self, key: &TokenKey, token: &[u8]) -> Result<(), SessionTokenError> {
        let theirs = SessionToken::open(key, token)?;
        self.seen.lock().join(&theirs);
        Ok(())
    }

    pub(crate) fn need(&self, keyspace: KeyspaceId, vnode: VnodeId) -> Need {
        match self.seen.lock().demand(keyspace, vnode) {
            Demand::Nothing => Need::Nothing,
            Demand::Dots(seen) => Need::Dots(Arc::new(seen.clone())),
            Demand::Everything => Need::Everything,
        }
    }

    /// What was seen of some of a keyspace's vnodes, or nothing where not all of it is remembered.
    pub(crate) fn needs(
        &self,
        keyspace: KeyspaceId,
        wanted: impl Fn(VnodeId) -> bool,
    ) -> Option<Vec<(VnodeId, Context)>> {
        let seen = self.seen.lock();
        if seen.is_folded() {
            return None;
        }
        let vnodes = seen.vnodes(keyspace).filter(|vnode| wanted(*vnode));
        let dots = vnodes.filter_map(|vnode| match seen.demand(keyspace, vnode) {
            Demand::Dots(dots) => Some((vnode, dots.clone())),
            Demand::Nothing | Demand::Everything => None,
        });
        Some(dots.collect())
    }

    /// Notes what the session is shown, or what it wrote. `known`: see [`Session::note`].
    pub(crate) fn note(
        &self,
        keyspace: KeyspaceId,
        vnode: VnodeId,
        dots: impl IntoIterator<Item = Dot>,
        known: Option<&Context>,
    ) {
        let mut seen = self.seen.lock();
        seen.note(keyspace, vnode, dots, known);
        // Not each time: a page touches one vnode after the other.
        if seen.len() > 2 * self.limits.vnodes {
            seen.trim(self.limits);
        }
    }
}

impl Inner {
    /// Serves a request as part of a session.
    pub(crate) fn in_session<'a>(
        self: &'a Arc<Self>,
        context: CallContext,
        inside: InSession,
        handed: Handed,
    ) -> BoxFuture<'a, Result<Outcome, RequestError>> {
        Box::pin(async move {
            let InSession { tokens, request } = inside;
            check(&tokens, &request)?;
            let open = OpenSession::open(&self.token_key, &tokens, self.options.session)?;
            let outcome = self.serve_part(context, *request, handed, Some(&open)).await?;
            let token = open.seal(&self.token_key);
            Ok(Outcome::InSession(SessionOutcome { token, outcome: Box::new(outcome) }))
        })
    }

    /// When this node gives up waiting for what a session has seen.
    pub(crate) fn session_wait(&self) -> Millis {
        self.host.now().plus(SESSION_WAIT_MS)
    }

    /// Waits until a vnode has what a session has seen of it; whether it came to that.
    pub(crate) async fn wait_for_seen(
        self: &Arc<Self>,
        keyspace: KeyspaceId,
        vnode: VnodeId,
        seen: &Context,
        until: Millis,
    ) -> bool {
        let (sender, receiver) = oneshot::channel();
        // Whoever waits may have given up.
        let tell = Box::new(move || {
            let _ = sender.send(());
        });
        match self.store.when_seen(keyspace, vnode, seen, tell) {
            Awaited::IsThere => true,
            Awaited::Full => false,
            Awaited::Waits(number) => {
                let told = select(receiver, self.host.sleep(until)).await;
                let is_there = matches!(told, Either::Left((Ok(()), _)));
                if !is_there {
                    self.store.stop_waiting(keyspace, vnode, number);
                }
                is_there
            }
        }
    }

    /// As [`Self::wait_for_seen`], for all vnodes that a page is asked of.
    pub(crate) async fn wait_for_page(self: &Arc<Self>, request: &PageRequest) -> bool {
        let until = self.session_wait();
        for (vnode, seen) in &request.seen {
            if !self.wait_for_seen(request.keyspace, *vnode, seen, until).await {
                return false;
            }
        }
        true
    }
}

fn check(tokens: &[Bytes], request: &Request) -> Result<(), RequestError> {
    let refused = |why: String| RequestError::InvalidArgument { what: "session", why };
    if tokens.len() > InSession::MAX_TOKENS {
        let most = InSession::MAX_TOKENS;
        return Err(refused(format!("{} tokens; at most {most} are allowed", tokens.len())));
    }
    match request {
        Request::Get(_)
        | Request::Put(_)
        | Request::Delete(_)
        | Request::Touch(_)
        | Request::MultiGet(_)
        | Request::Batch(_)
        | Request::Scan(_) => Ok(()),
        _ => Err(refused("only reads and writes of keys, and pages, are part of one".to_owned())),
    }
}
