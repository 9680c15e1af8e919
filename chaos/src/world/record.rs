//! What is written down while a world runs: the trace, and what the checks are told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use meridian_coordinator::message::{ReplicaReply, ReplicaRequest, WriteDelta, Written};
use meridian_crdt::{Context, Dot, Entry};
use meridian_types::{KeyspaceId, NodeId, TableId, VnodeId, WriteId};
use meridian_wire::replica::{PeerBody, PeerMessage};
use parking_lot::Mutex;

use super::Traffic;
use crate::history::{Key, Observation, What, WriteName};
use crate::sim::{Agenda, Line, Micros, Owner, StreamId, Tap, Trace};

/// Writes on the wire whose acknowledgements are told. An acknowledgement comes within a few
/// seconds of its write, so this many are those of the last ten thousand a second.
const MAX_PENDING: usize = 65_536;

/// Shared by the world, its clients and the links.
pub(crate) struct Record {
    agenda: Arc<Agenda>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    trace: Trace,
    traffic: Traffic,
    told: Vec<Observation>,
    /// Dots that were told.
    minted: BTreeSet<(KeyspaceId, VnodeId, Dot, bool)>,
    /// Deltas by who collects their acknowledgements, and under which call.
    pending: BTreeMap<(NodeId, u64), Copied>,
    /// The same, oldest first.
    oldest: VecDeque<(NodeId, u64)>,
}

/// A write on its way to a replica.
#[derive(Clone, Copy)]
struct Copied {
    key: Key,
    dot: Dot,
    hinted: bool,
}

impl Record {
    pub(crate) fn new(agenda: Arc<Agenda>, trace: Trace) -> Arc<Self> {
        let inner = Mutex::new(Inner { trace, ..Inner::default() });
        Arc::new(Self { agenda, inner })
    }

    /// Writes a line of the trace.
    pub(crate) fn note(&self, owner: Owner, what: &'static str, detail: u64) {
        let line = Line { at: self.agenda.now(), owner, what, detail };
        self.inner.lock().trace.note(line);
    }

    /// Writes a line of the trace about some bytes.
    pub(crate) fn note_bytes(&self, owner: Owner, what: &'static str, bytes: &[u8]) {
        self.inner.lock().trace.note_message(self.agenda.now(), owner, what, bytes);
    }

    /// Tells the checks.
    pub(crate) fn tell(&self, what: What) {
        let at = self.agenda.now();
        self.inner.lock().told.push(Observation { at, what });
    }

    /// What was told since this was last asked.
    pub(crate) fn take_told(&self) -> Vec<Observation> {
        std::mem::take(&mut self.inner.lock().told)
    }

    /// What all links took so far.
    pub(crate) fn traffic(&self) -> Traffic {
        self.inner.lock().traffic.clone()
    }

    pub(crate) fn with_trace<T>(&self, ask: impl FnOnce(&mut Trace) -> T) -> T {
        ask(&mut self.inner.lock().trace)
    }

    /// Tells of a dot that was found in a store, unless it is known.
    pub(crate) fn found(&self, keyspace: KeyspaceId, vnode: VnodeId, key: Key, entry: &Entry) {
        let write = entry.value.as_deref().and_then(WriteName::of_value);
        let at = self.agenda.now();
        self.inner.lock().mint(at, (keyspace, vnode), key, write, entry, None);
    }
}

impl Inner {
    fn mint(
        &mut self,
        at: Micros,
        (keyspace, vnode): (KeyspaceId, VnodeId),
        key: Key,
        write: Option<WriteName>,
        entry: &Entry,
        context: Option<Context>,
    ) {
        // A store may show a dot before it is on the wire, where its write and context are seen.
        if self.minted.insert((keyspace, vnode, entry.dot, context.is_some())) {
            let (dot, stamp) = (entry.dot, entry.stamp);
            let what = What::Minted { write, key, dot, stamp, context };
            self.told.push(Observation { at, what });
        }
    }

    fn saw_write(&mut self, at: Micros, call: u64, write: &WriteDelta) {
        let WriteDelta { row, delta, write_id, reply_to, hinted, .. } = write;
        let Some(key) = Key::parse(row.table, &row.key) else { return };
        let name = name_of(*write_id, delta.entry.value.as_deref());
        let context = Some(delta.context.clone());
        self.mint(at, (row.keyspace, row.vnode), key, name, &delta.entry, context);
        let copied = Copied { key, dot: delta.entry.dot, hinted: *hinted };
        if self.pending.insert((*reply_to, call), copied).is_none() {
            self.oldest.push_back((*reply_to, call));
        }
        if self.oldest.len() > MAX_PENDING
            && let Some(oldest) = self.oldest.pop_front()
        {
            self.pending.remove(&oldest);
        }
    }

    fn saw(&mut self, at: Micros, stream: StreamId, message: PeerMessage) {
        match message.body {
            PeerBody::Request(ReplicaRequest::Write(write)) => {
                self.saw_write(at, message.call, &write);
            }
            PeerBody::Reply(ReplicaReply::Written(Written { known, .. })) => {
                let (holder, target) = (stream.to, stream.from);
                let copied = self.pending.get(&(holder, message.call)).copied();
                let Some(Copied { key, dot, hinted }) = copied else { return };
                let mut tell = |what| self.told.push(Observation { at, what });
                tell(What::ReplicaAcked { node: target, key, dot });
                if hinted {
                    tell(What::HintTaken { holder, target, known });
                }
            }
            _ => {}
        }
    }
}

/// The write that an id or a value names.
fn name_of(id: Option<WriteId>, value: Option<&[u8]>) -> Option<WriteName> {
    id.and_then(WriteName::of_id).or_else(|| WriteName::of_value(value?))
}

impl Tap for Record {
    fn sent(&self, owner: Owner, stream: StreamId, message: &Bytes) {
        let at = self.agenda.now();
        let mut inner = self.inner.lock();
        inner.trace.note_message(at, owner, "sent", message);
        // What cannot be read is its receiver's to say.
        let bytes = message.len();
        if let Ok(message) = PeerMessage::decode(message.clone()) {
            inner.traffic.count(&message.body, bytes);
            inner.saw(at, stream, message);
        }
    }
}

/// The keys that clients use, of a table.
pub(crate) fn keys_of(table: TableId, keys: u32) -> impl Iterator<Item = Key> {
    (0..keys).map(move |number| Key { table, number })
}
