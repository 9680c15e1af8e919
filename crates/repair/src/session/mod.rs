//! The pull session: rule 7 of the design, step by step.

use meridian_crdt::VnodeClock;
use meridian_types::{KeyspaceId, Millis, Mutation, PeerStanding, VnodeId, broken};

use crate::message::{PullPage, PullPosition, PullRequest, PulledRow};

/// Which rows a pull brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullKind {
    /// Those that the peer has a dot of which the puller lacks, and those with a context.
    Missing,
    /// All of them, and the puller's own rows that the peer does not have are joined with the
    /// peer's clock: for rebuilding replicas and new owners of a vnode.
    Full,
}

/// What is pulled, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullOptions {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The vnode.
    pub vnode: VnodeId,
    /// Which rows.
    pub kind: PullKind,
    /// Most bytes of a page's rows. A page is held in memory on both sides.
    pub page_bytes: usize,
    /// How long the peer may take for a page, in milliseconds.
    pub page_timeout_ms: u64,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullEvent {
    /// The peer's page arrived.
    PageArrived(PullPage),
    /// The peer does not serve the pull.
    Refused(String),
    /// The link to the peer went down, or takes no message.
    PeerDown,
    /// What [`PullAction::Join`] or [`PullAction::JoinClock`] asked for is stored.
    Joined,
    /// It could not be stored.
    JoinFailed(String),
    /// Time has passed: [`PullSession::next_wakeup`] is due. Too early does no harm.
    TimePassed,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullAction {
    /// Ask the peer for a page.
    Request(PullRequest),
    /// Join rows, under the vnode's lock; then [`PullEvent::Joined`].
    Join {
        /// The rows.
        rows: Vec<PulledRow>,
        /// What the peer covered besides each row's entries and context.
        coverage: VnodeClock,
        /// In a full pull: the span of which the puller's own other rows are joined too.
        sweep: Option<Sweep>,
    },
    /// Join the peer's clock: every row behind it is joined. Also where it brings nothing: that the
    /// pull came to its end may be what the puller lacks (rule 10). Then [`PullEvent::Joined`].
    JoinClock {
        /// The peer's clock as it was at the first page.
        clock: VnodeClock,
        /// What the peer could prove then.
        standing: PeerStanding,
        /// After a full pull: the dots of the puller's own entries go into its clock too, for what
        /// is still here now is known.
        own_entries: bool,
    },
    /// The session is over; events that come later do nothing.
    Ended(Result<Pulled, PullError>),
}

/// A span of rows, in a full pull. Rows in it that the page does not name are not there at the
/// peer: each is joined with an empty row under the page's coverage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// Behind this position; `None` is from the vnode's beginning.
    pub after: Option<PullPosition>,
    /// Up to this position, included; `None` is to the vnode's end.
    pub until: Option<PullPosition>,
}

/// A session that came to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulled {
    /// How many pages the peer sent.
    pub pages: u32,
    /// How many rows came with them.
    pub rows: u64,
}

/// A session that broke off. The rows that were joined by then stay joined, which is safe; the
/// clock was not, so the next session brings the rest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PullError {
    /// The peer did not answer in time.
    #[error("the peer did not send page {page} within {timeout_ms} ms")]
    Timeout {
        /// The page, from 1.
        page: u32,
        /// How long was waited.
        timeout_ms: u64,
    },
    /// The link went down.
    #[error("the link to the peer went down")]
    PeerDown,
    /// The peer refused.
    #[error("the peer refused: {0}")]
    Refused(String),
    /// The own store failed.
    #[error("joining failed: {0}")]
    Store(String),
    /// The peer's pages do not come to an end.
    #[error("page {page} does not go on where the page before it ended")]
    NoProgress {
        /// The page, from 1.
        page: u32,
    },
}

/// Pulls one vnode from one peer.
///
/// INVARIANT: the peer's clock is joined after the last row or not at all, and it is the clock of
/// the first page: what the peer applied later may be on no page.
#[derive(Clone, Debug)]
pub struct PullSession {
    options: PullOptions,
    /// The own clock at the start, the same for all pages.
    own: VnodeClock,
    /// The peer's clock of the first page, and what it could prove then.
    first: Option<(VnodeClock, PeerStanding)>,
    done: Pulled,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// A page was asked for.
    Asking {
        after: Option<PullPosition>,
        until: Millis,
    },
    /// A page's rows are being joined; then the next page.
    Joining {
        next: Option<PullPosition>,
    },
    JoiningClock,
    Over,
}

impl PullSession {
    /// Starts a session: asks for the first page. `own` is the puller's clock of the vnode.
    pub fn start(
        options: PullOptions,
        own: VnodeClock,
        now: Millis,
        out: &mut Vec<PullAction>,
    ) -> Self {
        let (first, done, state) = (None, Pulled::default(), State::Over);
        let mut session = Self { options, own, first, done, state };
        session.ask(None, now, out);
        session
    }

    /// A session whose first page is there already: it was asked for with `own` as the puller's
    /// clock, without a position.
    pub fn with_page(
        options: PullOptions,
        own: VnodeClock,
        page: PullPage,
        now: Millis,
        out: &mut Vec<PullAction>,
    ) -> Self {
        let state = State::Asking { after: None, until: now };
        let mut session = Self { options, own, first: None, done: Pulled::default(), state };
        session.page_arrived(page, now, out);
        session
    }

    /// Takes note of an event, and says what is to be done.
    pub fn step(&mut self, event: PullEvent, now: Millis, out: &mut Vec<PullAction>) {
        match (event, &self.state) {
            (_, State::Over) => {}
            (PullEvent::Refused(why), _) => self.end(Err(PullError::Refused(why)), out),
            (PullEvent::PeerDown, State::Asking { .. }) => {
                self.end(Err(PullError::PeerDown), out);
            }
            (PullEvent::JoinFailed(why), _) => self.end(Err(PullError::Store(why)), out),
            (PullEvent::PageArrived(page), State::Asking { .. }) => {
                self.page_arrived(page, now, out);
            }
            (PullEvent::Joined, State::Joining { .. }) => self.go_on(now, out),
            (PullEvent::Joined, State::JoiningClock) => self.end(Ok(self.done), out),
            (PullEvent::TimePassed, State::Asking { until, .. }) if now >= *until => {
                let (page, timeout_ms) = (self.done.pages + 1, self.options.page_timeout_ms);
                self.end(Err(PullError::Timeout { page, timeout_ms }), out);
            }
            // What is joined is joined, whether or not the peer is still there; a page that was
            // not asked for is none.
            (
                PullEvent::PeerDown
                | PullEvent::PageArrived(_)
                | PullEvent::Joined
                | PullEvent::TimePassed,
                _,
            ) => {}
        }
    }

    /// When [`PullEvent::TimePassed`] is due.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Millis> {
        match self.state {
            State::Asking { until, .. } => Some(until),
            State::Joining { .. } | State::JoiningClock | State::Over => None,
        }
    }

    /// Whether the session is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// What is pulled.
    #[must_use]
    pub fn options(&self) -> &PullOptions {
        &self.options
    }

    fn ask(&mut self, after: Option<PullPosition>, now: Millis, out: &mut Vec<PullAction>) {
        // Half a pull is the first row.
        let max_bytes = match broken(Mutation::JoinClockOfHalfPull) {
            true => 1,
            false => self.options.page_bytes,
        };
        out.push(PullAction::Request(PullRequest {
            keyspace: self.options.keyspace,
            vnode: self.options.vnode,
            clock: self.own.clone(),
            after: after.clone(),
            full: self.options.kind == PullKind::Full,
            max_bytes,
        }));
        self.state = State::Asking { after, until: now.plus(self.options.page_timeout_ms) };
    }

    fn page_arrived(&mut self, page: PullPage, now: Millis, out: &mut Vec<PullAction>) {
        let State::Asking { after, .. } = &mut self.state else { return };
        let after = after.take();
        let PullPage { clock, standing, rows, next } = page;
        self.done.pages += 1;
        if next.is_some() && next <= after {
            return self.end(Err(PullError::NoProgress { page: self.done.pages }), out);
        }
        if self.first.is_none() || broken(Mutation::JoinClockOfTheEnd) {
            self.first = Some((clock.clone(), standing));
        }
        let full = self.options.kind == PullKind::Full;
        let sweep = full.then(|| Sweep { after, until: next.clone() });
        self.state = State::Joining { next };
        if rows.is_empty() && sweep.is_none() {
            return self.go_on(now, out);
        }
        self.done.rows += rows.len() as u64;
        out.push(PullAction::Join { rows, coverage: clock, sweep });
    }

    /// The next page, or the clock after the last one.
    fn go_on(&mut self, now: Millis, out: &mut Vec<PullAction>) {
        let State::Joining { next } = &mut self.state else { return };
        if let Some(next) = next.take().filter(|_| !broken(Mutation::JoinClockOfHalfPull)) {
            return self.ask(Some(next), now, out);
        }
        let Some((clock, standing)) = self.first.take() else { return };
        let own_entries = self.options.kind == PullKind::Full;
        self.state = State::JoiningClock;
        out.push(PullAction::JoinClock { clock, standing, own_entries });
    }

    fn end(&mut self, result: Result<Pulled, PullError>, out: &mut Vec<PullAction>) {
        self.state = State::Over;
        out.push(PullAction::Ended(result));
    }
}

#[cfg(test)]
mod tests;
