//! Histories written by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use meridian_crdt::{Actor, Context, Dot, DotSet, Entry, Row, VnodeClock};
use meridian_types::{
    ConflictPolicy, ConsistencyLevel, DcId, Hlc, Incarnation, KeyspaceId, Millis, NodeId, TableId,
    VnodeId,
};

use super::{
    Answer, Ask, Attempt, ClientId, Failure, Final, Invocation, Key, Loss, LossCause, Observation,
    OpId, Oracle, Place, ReadAnswer, ReplicaState, Seen, SessionId, Setting, SyncPromise,
    TableSetting, VnodeState, What, WriteAnswer, WriteAsk, WriteKind, WriteName,
};
use crate::sim::Micros;

pub(crate) const SIBLINGS: Key = Key { table: TableId(1), number: 1 };
pub(crate) const LWW: Key = Key { table: TableId(2), number: 1 };
pub(crate) const EU: DcId = DcId(1);
pub(crate) const KEYSPACE: KeyspaceId = KeyspaceId(1);
pub(crate) const VNODE: VnodeId = VnodeId(0);

/// Nodes 1 to 3 in one datacenter, each a replica of everything.
pub(crate) fn setting(sync: SyncPromise) -> Arc<Setting> {
    let nodes: BTreeMap<NodeId, DcId> = (1..=3).map(|id| (NodeId(id), EU)).collect();
    let table = |policy| TableSetting { keyspace: KEYSPACE, policy, has_ttl: false };
    let place = Place { vnode: VNODE, replicas: nodes.keys().copied().collect() };
    Arc::new(Setting {
        sync,
        nodes,
        tables: BTreeMap::from([
            (SIBLINGS.table, table(ConflictPolicy::Siblings)),
            (LWW.table, table(ConflictPolicy::Lww)),
        ]),
        keys: BTreeMap::from([(SIBLINGS, place.clone()), (LWW, place)]),
        skew_ms: 0,
        heal: Micros::from_secs(60),
    })
}

pub(crate) fn dot(node: u32, counter: u64) -> Dot {
    Dot::new(Actor { node: NodeId(node), incarnation: Incarnation(7) }, counter)
}

pub(crate) fn context(dots: &[Dot]) -> Context {
    dots.iter().copied().collect()
}

pub(crate) fn failed(effect: meridian_service::Effect) -> Answer {
    Answer::Failed(Failure { effect, code: "timeout" })
}

/// Writes down a history: every call is one observation, a millisecond after the one before.
#[derive(Clone)]
pub(crate) struct History {
    pub(crate) setting: Arc<Setting>,
    pub(crate) told: Vec<Observation>,
    key: Key,
    ops: u64,
    /// Of what is asked from now on.
    pub(crate) session: Option<SessionId>,
}

impl History {
    pub(crate) fn of(key: Key) -> Self {
        let (setting, told) = (setting(SyncPromise::Always), Vec::new());
        Self { setting, told, key, ops: 0, session: None }
    }

    pub(crate) fn now(&self) -> Micros {
        Micros::from_millis(self.told.len() as u64)
    }

    pub(crate) fn tell(&mut self, what: What) {
        let at = self.now();
        self.told.push(Observation { at, what });
    }

    pub(crate) fn invoke(&mut self, level: ConsistencyLevel, ask: Ask) -> Attempt {
        let attempt = Attempt { op: OpId(self.ops), number: 0 };
        self.ops += 1;
        self.tell(What::Invoked(Invocation {
            attempt,
            client: ClientId(1),
            session: self.session,
            node: NodeId(1),
            dc: EU,
            level,
            deadline: self.now() + Micros::from_secs(1),
            ask,
        }));
        attempt
    }

    pub(crate) fn write(
        &mut self,
        name: u64,
        level: ConsistencyLevel,
        kind: WriteKind,
        context: Option<Context>,
    ) -> Attempt {
        let (write, key) = (WriteName(name), self.key);
        let ask = WriteAsk { write, key, kind, context, conditional: false };
        self.invoke(level, Ask::Write(ask))
    }

    pub(crate) fn done(&mut self, attempt: Attempt, stamp: u64) {
        let done = WriteAnswer::Done { applied: true, stamp: Hlc(stamp), context: None };
        self.tell(What::Returned { attempt, answer: Answer::Written(vec![done]) });
    }

    pub(crate) fn minted(&mut self, name: u64, dot: Dot, stamp: u64, covers: &[Dot]) {
        let (write, key, stamp) = (Some(WriteName(name)), self.key, Hlc(stamp));
        self.tell(What::Minted { write, key, dot, stamp, context: Some(context(covers)) });
    }

    pub(crate) fn acked(&mut self, node: u32, dot: Dot) {
        let (node, key) = (NodeId(node), self.key);
        self.tell(What::ReplicaAcked { node, key, dot });
    }

    /// A put or delete at a quorum by node 1, whole: its stamp is its name.
    pub(crate) fn wrote(&mut self, name: u64, kind: WriteKind, dot: Dot, covers: &[Dot]) {
        let attempt = self.write(name, ConsistencyLevel::Quorum, kind, Some(context(covers)));
        self.minted(name, dot, name, covers);
        self.acked(2, dot);
        self.done(attempt, name);
    }

    /// A read, whole, with a token where one is given.
    pub(crate) fn read(&mut self, level: ConsistencyLevel, values: &[u64], token: Option<&[Dot]>) {
        let attempt = self.invoke(level, Ask::Get(self.key));
        let values = values.iter().map(|name| (WriteName(*name), Hlc(*name))).collect();
        let seen = Seen { values, foreign: 0, context: token.map(context) };
        let answer = Answer::Read(vec![ReadAnswer { key: self.key, result: Ok(seen) }]);
        self.tell(What::Returned { attempt, answer });
    }

    pub(crate) fn lost(&mut self, node: u32, cause: LossCause, dots: &[Dot]) {
        let dots: DotSet = dots.iter().copied().collect();
        self.tell(What::Lost(Loss {
            node: NodeId(node),
            cause,
            since: self.now(),
            keyspace: KEYSPACE,
            vnode: VNODE,
            gone: dots.clone(),
            dots,
        }));
    }

    /// All three nodes have these dots, and this row.
    pub(crate) fn end(&self, known: &[Dot], shown: &[(u64, Dot)]) -> Final {
        let replica = || self.replica(known, shown);
        let replicas = (1..=3).map(|id| (NodeId(id), replica())).collect();
        Final { at: self.now(), wall: Millis(1), replicas }
    }

    pub(crate) fn replica(&self, known: &[Dot], shown: &[(u64, Dot)]) -> ReplicaState {
        let vnodes = BTreeMap::from([((KEYSPACE, VNODE), self.vnode(known, shown))]);
        ReplicaState { sound: true, vnodes }
    }

    pub(crate) fn vnode(&self, known: &[Dot], shown: &[(u64, Dot)]) -> VnodeState {
        let mut clock = VnodeClock::default();
        for dot in known {
            clock.insert(*dot);
        }
        let entries = shown.iter().map(|(name, dot)| Entry {
            dot: *dot,
            stamp: Hlc(*name),
            expires: None,
            value: Some(WriteName(*name).value(20)),
        });
        let row = Row::new(entries, Context::default());
        VnodeState { clock: Arc::new(clock), rows: BTreeMap::from([(self.key, row)]) }
    }

    pub(crate) fn oracle(&self, end: &Final) -> Oracle {
        let mut oracle = Oracle::new(Arc::clone(&self.setting));
        for observation in &self.told {
            oracle.observe(observation);
        }
        oracle.end(end);
        oracle
    }
}

pub(crate) const PUT: WriteKind = WriteKind::Put { expires: None };
