//! One client.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::channel::oneshot;
use futures::future::{Either, select};
use meridian_service::{
    CallContext, InSession, Outcome, Request, RequestError, Service, SessionOutcome,
};
use meridian_types::{ConsistencyLevel, DcId, NodeId, RequestId, TableId};
use xxhash_rust::xxh3::xxh3_64;

use super::Clients;
use super::answer::{Reader, Said};
use super::words::{Doing, Token, Wanted, expires, weighed};
use crate::history::{
    Attempt, ClientId, Invocation, Key, OpId, SessionId, What, WriteKind, WriteName,
};
use crate::scenario::{OpKind, Workload};
use crate::sim::{Draw, Micros, NodeClock, Owner, Purpose, Streams};

/// Tries of one operation, at most.
const MAX_ATTEMPTS: u32 = 4;

/// How long after the deadline a client still listens.
const PATIENCE: Micros = Micros::from_secs(5);

/// Operations and writes that one operation of an open loop may be made of: a batch has a hundred
/// keys at most, a scan as many pages as keys.
const NAMES_OF_ONE: u32 = 1_024;

/// Rows of a page. Few, so that a scan has several.
const PAGE_ROWS: usize = 3;

/// Answers in a row that its session is behind, after which a client begins a new one.
const BEHIND_IN_A_ROW: u32 = 3;

/// A session as its client keeps it.
#[derive(Default)]
struct KeptSession {
    tokens: Vec<Bytes>,
    /// How many the client had before.
    number: u32,
    behind: u32,
}

impl KeptSession {
    /// Keeps the token that came with an answer, or begins anew where its nodes stay behind: what
    /// it has seen may be lost.
    fn answered(&mut self, answer: Result<Outcome, RequestError>) -> Result<Outcome, RequestError> {
        match answer {
            Ok(Outcome::InSession(SessionOutcome { token, outcome })) => {
                self.tokens = vec![token];
                self.behind = 0;
                Ok(*outcome)
            }
            Err(error @ RequestError::SessionBehind { .. }) => {
                self.behind += 1;
                if self.behind == BEHIND_IN_A_ROW {
                    *self = Self { number: self.number + 1, ..Self::default() };
                }
                Err(error)
            }
            other => other,
        }
    }
}

/// A client; see [`Workload`] for what it does.
pub(super) struct Client {
    all: Clients,
    workload: Arc<Workload>,
    number: u32,
    dc: DcId,
    node: NodeId,
    draw: Draw,
    tokens: BTreeMap<Key, Token>,
    session: Option<KeptSession>,
    ops: u32,
    writes: u32,
}

impl Client {
    pub(super) fn new(
        all: Clients,
        workload: Arc<Workload>,
        number: u32,
        dc: DcId,
        draw: Draw,
    ) -> Self {
        let (node, tokens) = (NodeId(0), BTreeMap::new());
        let session = (number < workload.sessions).then(KeptSession::default);
        let (ops, writes) = (0, 0);
        let mut client =
            Self { all, workload, number, dc, node, draw, tokens, session, ops, writes };
        client.move_within();
        client
    }

    /// Works until the time is over.
    pub(super) async fn run(self, begin: Micros, end: Micros) {
        match self.workload.rate {
            Some(rate) => self.run_open(u64::from(rate), begin, end).await,
            None => self.run_closed(begin, end).await,
        }
    }

    /// Asks at times that are drawn, whether or not what was asked before is answered: `rate` times
    /// in a second, all clients together.
    async fn run_open(mut self, rate: u64, begin: Micros, end: Micros) {
        let between = Micros(1_000_000 * u64::from(self.workload.clients) / rate.max(1));
        let mut next = begin + Micros(self.draw.below(between.0));
        while next < end {
            self.all.agenda.sleep(next).await;
            let mut once = self.once();
            self.all.spawner.spawn(Owner::Client(self.number), async move { once.operate().await });
            if self.draw.below(100) < u64::from(self.workload.hop_percent) {
                self.hop();
            }
            next = next + Micros(self.draw.between(1, 2 * between.0));
        }
    }

    /// A client that does one operation of this one's, with names of its own.
    fn once(&mut self) -> Self {
        let once = Self {
            session: None,
            all: self.all.clone(),
            workload: Arc::clone(&self.workload),
            number: self.number,
            dc: self.dc,
            node: self.node,
            draw: Streams::new(self.draw.bits()).draw(Purpose::Client(self.number)),
            tokens: BTreeMap::new(),
            ops: self.ops,
            writes: self.writes,
        };
        self.ops += NAMES_OF_ONE;
        self.writes += NAMES_OF_ONE;
        once
    }

    /// Asks, waits for the answer and a little longer, and asks again.
    async fn run_closed(mut self, begin: Micros, end: Micros) {
        let mut next = begin + Micros(self.draw.below(self.workload.pause.0));
        loop {
            self.all.agenda.sleep(next).await;
            if self.now() >= end {
                return;
            }
            self.operate().await;
            if self.draw.below(100) < u64::from(self.workload.hop_percent) {
                self.hop();
            }
            next = self.now() + Micros(self.draw.between(1, 2 * self.workload.pause.0));
        }
    }

    fn now(&self) -> Micros {
        self.all.agenda.now()
    }

    /// Goes to another node of the same datacenter, or the same one.
    fn move_within(&mut self) {
        let nodes: Vec<_> = self.all.cluster.topology.nodes_in(self.dc).map(|n| n.id).collect();
        self.node = self.draw.pick(&nodes).copied().unwrap_or(self.node);
    }

    /// Goes to any node.
    fn hop(&mut self) {
        let nodes = self.all.cluster.topology.nodes();
        if let Some(node) = self.draw.pick(nodes) {
            (self.node, self.dc) = (node.id, node.dc);
        }
    }

    async fn operate(&mut self) {
        let Some(kind) = weighed(&self.workload.mix, &mut self.draw) else { return };
        let levels = if kind.writes() { &self.workload.writes } else { &self.workload.reads };
        let Some(level) = weighed(levels, &mut self.draw) else { return };
        let Some(table) = self.draw.pick(&self.all.cluster.tables).map(|table| table.id) else {
            return;
        };
        let key = self.key(table);
        let wall = NodeClock::default().wall(self.now());
        let put = WriteKind::Put { expires: None };
        match kind {
            OpKind::Get => self.attempt_all(Doing::Get(key), level).await,
            OpKind::Put => self.write(key, put, false, level).await,
            OpKind::PutSeen => self.write(key, put, true, level).await,
            OpKind::PutExpiring => {
                let expires = expires(wall, self.workload.ttl);
                self.write(key, WriteKind::Put { expires }, false, level).await;
            }
            OpKind::Delete => self.write(key, WriteKind::Delete, false, level).await,
            OpKind::DeleteSeen => self.write(key, WriteKind::Delete, true, level).await,
            OpKind::Scan => self.scan(table, level).await,
            OpKind::PutMany => {
                let keys = self.keys(table);
                let wanted = keys.into_iter().map(|key| self.wanted(key, put, None)).collect();
                self.attempt_all(Doing::WriteMany(wanted), level).await;
            }
            OpKind::PutAtomic => {
                let wanted = self.keys(table).into_iter();
                let wanted = wanted.map(|key| self.wanted(key, put, None)).collect();
                self.attempt_all(Doing::WriteAtomic(wanted), level).await;
            }
            OpKind::GetMany => {
                let keys = self.keys(table);
                self.attempt_all(Doing::GetMany(keys), level).await;
            }
        }
    }

    fn key(&mut self, table: TableId) -> Key {
        let keys = u64::from(self.all.cluster.keys);
        Key { table, number: u32::try_from(self.draw.below(keys)).unwrap_or(0) }
    }

    /// Different keys of a table, as many as a batch has and there are.
    fn keys(&mut self, table: TableId) -> Vec<Key> {
        let most = self.workload.batch.min(self.all.cluster.keys);
        let mut keys: Vec<_> = (0..most).map(|_| self.key(table)).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn wanted(&mut self, key: Key, kind: WriteKind, token: Option<Token>) -> Wanted {
        self.writes += 1;
        let write = WriteName(u64::from(self.number) << 32 | u64::from(self.writes));
        Wanted { write, key, kind, token }
    }

    /// Writes a key, where asked with the context of the last read, which is made where there is
    /// none.
    async fn write(&mut self, key: Key, kind: WriteKind, seen: bool, level: ConsistencyLevel) {
        if seen && !self.tokens.contains_key(&key) {
            let Some(reads) = weighed(&self.workload.reads, &mut self.draw) else { return };
            self.attempt_all(Doing::Get(key), reads).await;
        }
        let token = self.tokens.get(&key).filter(|_| seen).cloned();
        if seen && token.is_none() {
            return;
        }
        let wanted = self.wanted(key, kind, token);
        self.attempt_all(Doing::Write(wanted), level).await;
    }

    async fn scan(&mut self, table: TableId, level: ConsistencyLevel) {
        let mut cursor = None;
        for _page in 0..=self.all.cluster.keys {
            let doing = Doing::Scan { table, cursor: cursor.take(), limit: PAGE_ROWS };
            match self.attempts(&doing, level).await {
                Some(next) => cursor = Some(next),
                None => return,
            }
        }
    }

    async fn attempt_all(&mut self, doing: Doing, level: ConsistencyLevel) {
        self.attempts(&doing, level).await;
    }

    /// Tries an operation as often as the client likes; returns where the next page starts.
    async fn attempts(&mut self, doing: &Doing, level: ConsistencyLevel) -> Option<Bytes> {
        let op = OpId(u64::from(self.number) << 32 | u64::from(self.ops));
        self.ops += 1;
        for number in 0..MAX_ATTEMPTS {
            let attempt = Attempt { op, number };
            let said = self.attempt(attempt, doing, level).await;
            let again = said.as_ref().is_none_or(|said| said.retryable);
            if let Some(said) = said {
                self.tokens.extend(said.tokens);
                if !again {
                    return said.next;
                }
            }
            if self.draw.below(100) >= u64::from(self.workload.retry_percent) {
                return None;
            }
            self.move_within();
            let pause = Micros(self.draw.between(1, self.workload.pause.0));
            self.all.agenda.sleep(self.now() + pause).await;
        }
        None
    }

    /// Asks a node once; `None` where no answer came.
    async fn attempt(
        &mut self,
        attempt: Attempt,
        doing: &Doing,
        level: ConsistencyLevel,
    ) -> Option<Said> {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.draw.bits().to_be_bytes());
        let (owner, node) = self.all.doors.of(self.node)?;
        let bytes = usize::try_from(self.workload.value_bytes).unwrap_or(0);
        let request = doing.request(level, bytes, &self.all.cluster)?;
        let request = match &self.session {
            None => request,
            Some(KeptSession { tokens, .. }) => {
                let (tokens, request) = (tokens.clone(), Box::new(request));
                Request::InSession(InSession { tokens, request })
            }
        };
        let deadline = self.now() + self.workload.deadline;
        let me = Owner::Client(self.number);
        self.all.record.note_bytes(me, "invoked", format!("{attempt:?}").as_bytes());
        self.all.record.tell(What::Invoked(Invocation {
            attempt,
            client: ClientId(self.number),
            session: self.session.as_ref().map(|kept| SessionId(self.number << 16 | kept.number)),
            node: self.node,
            dc: self.dc,
            level,
            deadline,
            ask: doing.ask(),
        }));
        let context = CallContext {
            id: RequestId::from_bytes(id),
            timeout: Duration::from_micros(self.workload.deadline.0),
        };
        let (sender, answer) = oneshot::channel();
        let doors = Arc::clone(&self.all.doors);
        self.all.spawner.spawn(owner, async move {
            let answer = node.call(context, request).await;
            if matches!(answer, Err(RequestError::Overloaded { .. })) {
                doors.refused(owner);
            }
            // Nobody may listen any more.
            drop(sender.send(answer));
        });
        let patience = self.all.agenda.sleep(deadline + PATIENCE);
        let Either::Left((Ok(answer), _)) = select(answer, patience).await else {
            self.all.record.note(me, "abandoned", attempt.op.0);
            self.all.record.tell(What::Abandoned { attempt });
            return None;
        };
        let answer = match &mut self.session {
            None => answer,
            Some(kept) => kept.answered(answer),
        };
        let reader = Reader { cluster: &self.all.cluster, tokens: Vec::new() };
        let said = reader.read(doing, answer);
        let hash = xxh3_64(format!("{:?}", said.answer).as_bytes());
        self.all.record.note(me, "returned", hash);
        self.all.record.tell(What::Returned { attempt, answer: said.answer.clone() });
        Some(said)
    }
}
