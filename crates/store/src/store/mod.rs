//! The store: what callers hold, and the state that its verbs share. Each verb is in the room that
//! its name says.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use meridian_crdt::{Actor, ConflictPolicy, Row, RowVersion, VnodeClock};
use meridian_lsm::{Commit, Db, LogDriver, Snapshot, Tree, Workers};
use meridian_topology::VnodeCount;
use meridian_types::{
    Catalog, Hlc, Incarnation, KeyspaceId, Limits, Millis, Partitioner, RowKey, TableDef, TableId,
    Token, VnodeId,
};
use parking_lot::Mutex;

use crate::error::{CorruptRow, StoreError};
use crate::identity::Life;
use crate::key::{self, StoredKey};
use crate::merge::SharedPolicy;
use crate::metadata::Metadata;
use crate::recent::Recent;
use crate::reservations::Reservations;
use crate::stamps::{Carried, Stamps};
use crate::vnodes::Vnodes;
use crate::waiting::WaitingRoom;
use crate::write_ids::WriteIds;

pub(crate) mod catalog;
mod collect;
mod damaged;
mod evidence;
mod found;
mod join;
mod loose;
mod lost;
mod open;
mod page;
mod pull;
mod reserve;
mod states;
mod stats;
mod sweep;
mod write;

pub use collect::{Collected, Collecting};
pub use evidence::{Asked, MAX_EVIDENCE_VNODES};
pub use loose::REISSUED_ROWS;
pub use open::Opened;
pub use page::{PAGE_BYTES, PAGE_ROWS_EXAMINED, StorePage};
pub use pull::{PULL_ROWS_EXAMINED, VnodePage};
pub use reserve::{Reserved, ReservedDot, Reserving};
pub use states::Progress;
pub use stats::{StoreStats, TableStats};
pub use sweep::{FullPull, PagePosition, Swept};
pub use write::{Applied, LocalWrite, Minted, WriteContext};

use stats::Counters;

/// A replica's own room. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Inner { dir, actor, .. } = &*self.inner;
        f.debug_struct("Store").field("dir", dir).field("actor", actor).finish_non_exhaustive()
    }
}

/// Lock order: catalog change, vnode, then stamps, a stripe of write ids or
/// the reservations or what others told, then those of the
/// storage engine.
struct Inner {
    db: Db,
    /// The tree of the store's own records.
    clocks: Tree,
    metadata: Arc<dyn Metadata>,
    dir: PathBuf,
    partitioner: Partitioner,
    count: VnodeCount,
    memtable_bytes: usize,
    actor: Actor,
    life: Life,
    /// No entry that was there when the store was opened has a higher stamp.
    floor: Hlc,
    stamps: Stamps,
    write_ids: WriteIds,
    recent: Recent,
    reservations: Reservations,
    told: Mutex<evidence::Told>,
    /// Lives of this node that have ended and that others may have writes of.
    ended: Vec<Incarnation>,
    /// No life before this one promised a higher stamp.
    promised_before: Hlc,
    waiting: WaitingRoom,
    view: ArcSwap<View>,
    catalog_change: Mutex<()>,
    closed: AtomicBool,
    /// The first damage that was noted for the next start.
    damage: Mutex<Option<String>>,
    workers: Mutex<Option<Workers>>,
    /// Until somebody takes it.
    driver: Mutex<Option<LogDriver>>,
    counters: Counters,
}

/// The catalog, and what the store holds for it. Never changed, only replaced.
struct View {
    catalog: Arc<Catalog>,
    tables: BTreeMap<TableId, Arc<Table>>,
    keyspaces: BTreeMap<KeyspaceId, Arc<Vnodes>>,
}

/// A table and its tree.
struct Table {
    def: Arc<TableDef>,
    tree: Tree,
    policy: SharedPolicy,
    vnodes: Arc<Vnodes>,
}

/// What a read found.
#[derive(Clone, Debug)]
pub struct Read {
    /// The row, and the clock that it was read under.
    pub version: RowVersion,
    /// Settled when everything that the version shows is: the last write of the row's vnode, for an
    /// answer says by its clock what it has seen of other rows, too. What a start found is durable.
    pub commit: Commit,
}

/// Where a row is.
struct Place {
    table: Arc<Table>,
    vnode: VnodeId,
    token: Token,
    key: StoredKey,
}

impl Store {
    /// The actor that this store mints dots as.
    #[must_use]
    pub fn actor(&self) -> Actor {
        self.inner.actor
    }

    /// The catalog.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        self.inner.view().catalog.clone()
    }

    /// A table of the catalog.
    #[must_use]
    pub fn table(&self, id: TableId) -> Option<Arc<TableDef>> {
        self.inner.view().tables.get(&id).map(|table| table.def.clone())
    }

    /// The vnode that a key lies in.
    #[must_use]
    pub fn vnode_of(&self, key: &[u8]) -> VnodeId {
        self.inner.count.vnode_of(self.inner.partitioner.token(key))
    }

    /// The name of a row.
    #[must_use]
    pub fn row_key(&self, table: &TableDef, key: Bytes) -> RowKey {
        let vnode = self.vnode_of(&key);
        RowKey { keyspace: table.keyspace, table: table.id, vnode, key }
    }

    /// A stamp of this node's clock, above all that it gave or followed: for writes that this node
    /// accepts and cannot mint (rule 14).
    ///
    /// # Errors
    /// The storage engine refuses writes; the stamp must not be used.
    pub fn tick(&self, now: Millis) -> Result<Hlc, StoreError> {
        let (stamp, carried) = self.inner.stamps.tick(now);
        if carried != Carried::default() {
            self.inner.check_open()?;
            self.inner.write(meridian_lsm::WriteBatch::new(), carried)?;
        }
        Ok(stamp)
    }

    /// The row, and the clock that it was read under: both of one moment (rule 6). What the clock
    /// does not prove is left out (rule 10).
    ///
    /// # Errors
    /// A row that cannot be read is an error and never a missing row.
    pub fn read(&self, row: &RowKey) -> Result<RowVersion, StoreError> {
        Ok(self.read_with_commit(row)?.version)
    }

    /// As [`Self::read`], and what settles all that it shows. Whoever answers for more than this
    /// replica waits for that: with the policy `Always`, what is visible and not synced may be gone
    /// after a power cut, and a reader that another replica's answer goes with would go back.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_with_commit(&self, row: &RowKey) -> Result<Read, StoreError> {
        let place = self.inner.locate(row)?;
        let (clock, snapshot, commit, may_have_loose) = {
            let vnode = place.table.vnodes.lock(place.vnode);
            let may_have_loose = vnode.may_have_loose();
            (vnode.clock().clone(), self.inner.db.snapshot(), vnode.commit(), may_have_loose)
        };
        let mut row = place.table.row_at(&place.key, &snapshot)?;
        if may_have_loose {
            row = loose::proven(row, &clock);
        }
        Ok(Read { version: RowVersion { row, clock }, commit })
    }

    /// The clock of a vnode; empty where nothing was ever applied.
    #[must_use]
    pub fn clock(&self, keyspace: KeyspaceId, vnode: VnodeId) -> Arc<VnodeClock> {
        let view = self.inner.view();
        view.keyspaces.get(&keyspace).map_or_else(Arc::default, |vnodes| vnodes.clock(vnode))
    }

    /// The vnodes of a keyspace, if this one is among them.
    pub(crate) fn vnodes_of(&self, keyspace: KeyspaceId, vnode: VnodeId) -> Option<Arc<Vnodes>> {
        let vnodes = self.inner.view().keyspaces.get(&keyspace).cloned()?;
        vnodes.check(vnode).is_ok().then_some(vnodes)
    }

    pub(crate) fn waiting_room(&self) -> &WaitingRoom {
        &self.inner.waiting
    }

    /// Digests of the clocks of some vnodes. Each is computed once until its clock changes.
    #[must_use]
    pub fn clock_digests(&self, keyspace: KeyspaceId, vnodes: &[VnodeId]) -> Vec<(VnodeId, u128)> {
        let view = self.inner.view();
        let known = view.keyspaces.get(&keyspace);
        let digest = |vnode: VnodeId| match known {
            Some(vnodes) => vnodes.digest(vnode),
            None => VnodeClock::default().digest(),
        };
        vnodes.iter().map(|vnode| (*vnode, digest(*vnode))).collect()
    }

    /// Blocks until the sync policy's promise holds for a commit.
    ///
    /// # Errors
    /// The log cannot be written: whether the commit is durable is unknown, and the node must stop.
    /// With [`crate::LogMode::Driven`], for a commit that is not settled,
    /// [`meridian_lsm::Error::WouldWait`].
    pub fn wait(&self, commit: &Commit) -> Result<(), StoreError> {
        Ok(self.inner.db.wait(commit)?)
    }

    /// Settled when everything is that readers of any vnode see now.
    #[must_use]
    pub fn latest(&self) -> Commit {
        self.inner.db.latest()
    }

    /// Whether [`Self::wait`] would return at once.
    #[must_use]
    pub fn is_settled(&self, commit: &Commit) -> bool {
        self.inner.db.is_settled(commit)
    }

    /// Calls `call` when [`Self::wait`] would return: at once on this thread if it holds already,
    /// otherwise on the thread that writes the log, or that of its driver. `call` must be quick and
    /// must not use the store.
    pub fn on_settled(
        &self,
        commit: &Commit,
        call: Box<dyn FnOnce(Result<(), meridian_lsm::Error>) + Send>,
    ) {
        self.inner.db.on_settled(commit, call);
    }

    /// The log of a store that was opened with [`crate::LogMode::Driven`], for the first who asks.
    /// It keeps the data directory open, also when the store is dropped.
    #[must_use]
    pub fn log_driver(&self) -> Option<LogDriver> {
        self.inner.driver.lock().take()
    }

    /// Tells the storage engine the time, for the removal of expired rows. Stores with workers
    /// look at the clock themselves; the others know the time that they were opened at.
    pub fn set_time(&self, now: Millis) {
        self.inner.db.set_time(now.0);
    }

    /// Makes everything written so far durable, whatever the sync policy.
    ///
    /// # Errors
    /// The disk refuses; the node must stop.
    pub fn sync(&self) -> Result<(), StoreError> {
        Ok(self.inner.db.sync()?)
    }

    /// Writes every memtable to a file, and waits for that.
    ///
    /// # Errors
    /// What a flush says: the data stays in memory and in the log.
    pub fn flush(&self) -> Result<(), StoreError> {
        Ok(self.inner.db.flush()?)
    }

    /// Flushes, and merges a table's files into one run.
    ///
    /// # Errors
    /// What a flush or compaction says: the files stay as they were.
    pub fn compact(&self, table: TableId) -> Result<(), StoreError> {
        let tree = match self.inner.view().tables.get(&table) {
            Some(table) => table.tree.clone(),
            None => return Err(StoreError::UnknownTable(table)),
        };
        Ok(self.inner.db.compact(tree.name())?)
    }

    /// Runs one pending flush or compaction on this thread, if there is one; whether there was. For
    /// stores without workers.
    ///
    /// # Errors
    /// What the job says; nothing is lost, and it is pending still.
    pub fn poll_job(&self) -> Result<bool, StoreError> {
        Ok(self.inner.db.poll_job()?)
    }

    /// Reads every file and compares it with its checksums.
    ///
    /// # Errors
    /// The first damaged file and place.
    pub fn verify(&self) -> Result<(), StoreError> {
        Ok(self.inner.db.verify()?)
    }

    /// The error that made the storage engine refuse writes, if one did: the node must stop.
    #[must_use]
    pub fn poisoned(&self) -> Option<meridian_lsm::Error> {
        self.inner.db.poisoned()
    }
}

impl Inner {
    fn view(&self) -> Guard<Arc<View>> {
        self.view.load()
    }

    fn locate(&self, row: &RowKey) -> Result<Place, StoreError> {
        let view = self.view();
        let table = view.tables.get(&row.table).ok_or(StoreError::UnknownTable(row.table))?.clone();
        drop(view);
        if table.def.keyspace != row.keyspace {
            let (given, actual) = (row.keyspace, table.def.keyspace);
            return Err(StoreError::WrongKeyspace { table: row.table, given, actual });
        }
        Limits::DEFAULT.check_key(&row.key)?;
        let token = self.partitioner.token(&row.key);
        let vnode = self.count.vnode_of(token);
        if vnode != row.vnode {
            return Err(StoreError::WrongVnode { given: row.vnode, actual: vnode });
        }
        let key = key::encode(token.high(), &row.key);
        Ok(Place { table, vnode, token, key })
    }

    /// The stored keys of a vnode; it must be one of the ring's.
    fn stored_range(&self, vnode: VnodeId) -> (Bound<Bytes>, Bound<Bytes>) {
        stored_range(self.count, vnode)
    }

    /// To be called under the lock of a vnode: see [`Store::close`].
    fn check_open(&self) -> Result<(), StoreError> {
        if self.closed.load(Ordering::SeqCst) { Err(StoreError::Closed) } else { Ok(()) }
    }
}

/// The stored keys of a vnode: none, of one that the ring does not have.
fn stored_range(count: VnodeCount, vnode: VnodeId) -> (Bound<Bytes>, Bound<Bytes>) {
    let Some(tokens) = count.token_range(vnode) else {
        return (Bound::Excluded(Bytes::new()), Bound::Excluded(Bytes::new()));
    };
    let first = key::first_of(tokens.start().high());
    (Bound::Included(first), page::last_bound(tokens.end().high()))
}

impl Table {
    fn policy(&self) -> ConflictPolicy {
        self.def.options.policy
    }

    fn row_at(&self, key: &[u8], at: &Snapshot) -> Result<Row, StoreError> {
        let stored = self.tree.get(key, at).map_err(|cause| self.failed(key, cause))?;
        self.decode(key, stored)
    }

    /// To be called under the vnode's lock, where nobody else writes.
    fn row_now(&self, key: &[u8]) -> Result<Row, StoreError> {
        let stored = self.tree.get_latest(key).map_err(|cause| self.failed(key, cause))?;
        self.decode(key, stored)
    }

    fn decode(&self, key: &[u8], stored: Option<Bytes>) -> Result<Row, StoreError> {
        let Some(stored) = stored else { return Ok(Row::default()) };
        let mut row =
            Row::from_bytes(&stored).map_err(|cause| self.corrupt(key, None, cause.to_string()))?;
        if self.policy() == ConflictPolicy::Lww && row.entries().len() > 1 {
            // Written while the table kept siblings.
            let mut winner = Row::default();
            winner.absorb(ConflictPolicy::Lww, row);
            row = winner;
        }
        Ok(row)
    }

    /// What a failed read of a stored key means.
    fn failed(&self, key: &[u8], cause: meridian_lsm::Error) -> StoreError {
        match cause {
            meridian_lsm::Error::Corruption { file, offset, what } => {
                self.corrupt(key, Some(file), format!("{what}, at offset {offset}"))
            }
            meridian_lsm::Error::Merge { reason, .. } => self.corrupt(key, None, reason),
            cause => cause.into(),
        }
    }

    fn corrupt(&self, stored_key: &[u8], file: Option<PathBuf>, cause: String) -> StoreError {
        let stored = Bytes::copy_from_slice(stored_key);
        let key = key::decode(&stored).map_or(stored, |position| position.key);
        let table = self.def.name.clone();
        StoreError::Corrupt(Box::new(CorruptRow { table, key, file, cause }))
    }
}
