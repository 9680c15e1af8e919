//! Opening and closing.

use std::path::Path;

use meridian_lsm::{Recovery, SyncPolicy, TreeConfig, WriteBatch};
use meridian_types::{Incarnation, NodeId};
use meridian_vfs::Fs;

use super::found::FoundVnodes;
use super::lost::{Losses, Room};
use super::*;
use crate::identity::{self, Identity, Record};
use crate::merge::RecordMerge;
use crate::options::{CLOCKS_MEMTABLE_BYTES, LogMode, StoreOptions};
use crate::records::{
    self, AHEAD_KEY, CLOCKS_TREE, ENDED_KEY, IDENTITY_KEY, LIFE_BEFORE_KEY, LIFE_KEY, MARK_KEY,
    PROMISED_KEY,
};

/// What a start found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The incarnation that dots are minted under from now on.
    pub incarnation: Incarnation,
    /// Whether it is a new one.
    pub new_incarnation: bool,
    /// Whether the last start was closed in order; true for the first one.
    pub clean: bool,
    /// Whether the metadata remember a start that the data directory knows nothing of: the data
    /// were wiped, or an older copy was put back. What other replicas hold must be pulled.
    pub data_lost: bool,
    /// Whether the data know of a start and the metadata do not: the metadata were wiped, or
    /// whoever put back a copy said so ([`crate::require_new_incarnation`]). Nothing says that the
    /// data are the newest that there were.
    pub unproven: bool,
    /// Whether acknowledged writes may be missing at the end of the log: the last start was not
    /// closed in order, and did not sync every write before it was acknowledged.
    pub tail_lost: bool,
    /// What the disk had and cannot be read any more, for the operator. Those vnodes are rebuilt.
    pub lost: Vec<String>,
    /// Vnodes that begin anew because of it.
    pub reset_vnodes: usize,
    /// Writes found in the log.
    pub recovered_records: u64,
    /// Bytes at the end of the log that no sync had covered and that were cut.
    pub torn_bytes: u64,
}

impl Store {
    /// Opens the store in `dir`, or creates it. `fresh_incarnation` is a random number; `now` the
    /// wall clock. Without the files that cannot be read: what they held is rebuilt from the other
    /// replicas (rule 10).
    ///
    /// # Errors
    /// [`StoreError::Foreign`] for a directory of another node, cluster or ring, and corruption of
    /// what nobody else has: then nothing was changed that another start would miss.
    pub fn open(
        fs: Arc<dyn Fs>,
        dir: &Path,
        metadata: Arc<dyn Metadata>,
        identity: Identity,
        options: StoreOptions,
        fresh_incarnation: Incarnation,
        now: Millis,
    ) -> Result<(Self, Opened), StoreError> {
        let count = options.vnode_count()?;
        options.check_log()?;
        let actor_node = identity.node;
        let record = Record::new(identity, &options);
        if let Some(recorded) = identity::load_record(&*metadata)? {
            record.check(&recorded, dir)?;
        }
        let start = Start {
            dir,
            metadata,
            actor_node,
            record,
            options,
            count,
            fresh: fresh_incarnation,
            now,
        };
        let mut suspects = BTreeSet::new();
        loop {
            let (db, recovery) = start.engine(fs.clone())?;
            let damage = match start.store(db.clone(), &recovery) {
                Ok(opened) => return Ok(opened),
                Err(damage) => damage,
            };
            // Found by reading it, not by opening it: the next time it is left out.
            let file = damage.damaged_file().map(Path::to_owned);
            match file {
                Some(file) if suspects.insert(file.clone()) && db.suspect(&file)? => {}
                _ => return Err(damage),
            }
        }
    }

    /// Closes the store in order: everything is durable, and the next start keeps the incarnation.
    /// Waits for writes that have begun; later ones are refused.
    ///
    /// # Errors
    /// The disk refuses: the next start is as after a crash.
    pub fn close(self) -> Result<(), StoreError> {
        let inner = &*self.inner;
        if inner.closed.swap(true, Ordering::SeqCst) {
            return Err(StoreError::Closed);
        }
        // Whoever looked before the swap holds the lock of a vnode, or that of catalog changes.
        drop(inner.catalog_change.lock());
        inner.view().keyspaces.values().for_each(|vnodes| vnodes.drain());
        let mut batch = WriteBatch::new();
        let mark = inner.stamps.last();
        batch.put(&inner.clocks, MARK_KEY, records::stamp_to_bytes(mark));
        inner.db.write(batch)?;
        let workers = inner.workers.lock().take();
        drop(workers);
        drop(inner.driver.lock().take());
        inner.db.clone().close()?;
        // A dot that was given out is known to nobody here afterwards; another life cannot reuse it.
        let reserved = !inner.reservations.is_empty();
        Life { closed: true, reserved, ..inner.life }.save(&*inner.metadata)
    }
}

/// What a start is given.
struct Start<'a> {
    dir: &'a Path,
    metadata: Arc<dyn Metadata>,
    actor_node: NodeId,
    record: Record,
    options: StoreOptions,
    count: VnodeCount,
    fresh: Incarnation,
    now: Millis,
}

impl Start<'_> {
    fn engine(&self, fs: Arc<dyn Fs>) -> Result<(Db, Recovery), StoreError> {
        let clocks = TreeConfig {
            memtable_bytes: CLOCKS_MEMTABLE_BYTES.min(self.options.memtable_bytes),
            ..TreeConfig::new(CLOCKS_TREE).with_merge(Arc::new(RecordMerge))
        };
        Ok(Db::open(fs, self.dir, self.options.db(), vec![clocks])?)
    }

    fn store(&self, db: Db, recovery: &Recovery) -> Result<(Store, Opened), StoreError> {
        let catalog = catalog::load(&*self.metadata)?;
        let clocks = db.tree(CLOCKS_TREE).ok_or_else(|| StoreError::CorruptRecord {
            record: "list of trees".to_owned(),
            cause: "the tree of the clocks is missing".to_owned(),
        })?;
        db.set_time(self.now.0);
        let mut found = Found::load(&clocks, &self.record, self.dir)?;
        let last = Life::load(&*self.metadata)?;
        let life = Life {
            synced: self.options.sync == SyncPolicy::Always,
            ..Life::next(last, found.life, recovery.clean_shutdown, self.fresh)
        };
        let room = Room { db: &db, clocks: &clocks, catalog: &catalog, count: self.count };
        let losses = Losses::of(recovery, &catalog, self.count)?;
        let mut opened = opened(&life, last, &found, recovery, &losses);
        let (vnodes, mark, ahead) = self.vnodes(&room, &losses, &mut found, &mut opened)?;
        let floor = mark.max(ahead);
        let options = &self.options;
        let inner = Inner {
            stamps: Stamps::new(mark.max(found.promised), options.max_clock_ahead_ms, self.now),
            reservations: Reservations::default(),
            waiting: WaitingRoom::default(),
            told: Mutex::default(),
            ended: ended_lives(&found, last, life),
            promised_before: found.promised,
            write_ids: WriteIds::new(options.write_id_table_bytes, options.write_id_ttl_ms),
            recent: Recent::new(),
            actor: Actor { node: self.actor_node, incarnation: life.incarnation },
            view: ArcSwap::from_pointee(View {
                catalog: Arc::default(),
                tables: BTreeMap::new(),
                keyspaces: vnodes.into_keyspaces(self.count, floor, life.incarnation),
            }),
            floor,
            dir: self.dir.to_owned(),
            partitioner: options.partitioner,
            memtable_bytes: options.memtable_bytes,
            catalog_change: Mutex::new(()),
            closed: AtomicBool::new(false),
            damage: Mutex::new(None),
            workers: Mutex::new(None),
            driver: Mutex::new(None),
            counters: Counters::default(),
            db,
            clocks,
            metadata: self.metadata.clone(),
            count: self.count,
            life,
        };
        inner.install(Arc::new(catalog))?;
        inner.begin_life(&self.record, last)?;
        inner.begin_work(options)?;
        Ok((Store { inner: Arc::new(inner) }, opened))
    }

    /// What is there of each vnode, and the marks of stamps, when losses are dealt with.
    fn vnodes(
        &self,
        room: &Room<'_>,
        losses: &Losses,
        found: &mut Found,
        opened: &mut Opened,
    ) -> Result<(FoundVnodes, Hlc, Hlc), StoreError> {
        room.configure()?;
        let mut vnodes = FoundVnodes::load(room.clocks, &room.db.snapshot(), self.count)?;
        vnodes.judge(opened);
        if losses.are_told {
            if losses.are_everywhere() && !found.ended.contains(&UNKNOWN_LIFE) {
                // Some may be missing in the list.
                found.ended.push(UNKNOWN_LIFE);
                let mut batch = WriteBatch::new();
                batch.put(room.clocks, ENDED_KEY, records::lives_to_bytes(&found.ended));
                room.db.write(batch)?;
            }
            room.begin_resets(losses, &mut vnodes, opened.incarnation)?;
        } else {
            vnodes.record(room.db, room.clocks)?;
        }
        opened.reset_vnodes = vnodes.resetting().len();
        let top = room.end_resets(&mut vnodes)?;
        let latest = self.now.plus(self.options.max_clock_ahead_ms);
        let (mark, ahead) = room.raise_marks(top, (found.mark, found.ahead), latest)?;
        Ok((vnodes, mark, ahead))
    }
}

/// The store's own records, as the storage engine has them.
struct Found {
    life: Option<u64>,
    /// The life that the metadata name where they do not know of `life` yet.
    life_before: Option<u64>,
    mark: Hlc,
    ahead: Hlc,
    promised: Hlc,
    /// The lives that had ended when the last one began.
    ended: Vec<Incarnation>,
}

impl Found {
    fn load(clocks: &Tree, record: &Record, dir: &Path) -> Result<Self, StoreError> {
        if let Some(recorded) = clocks.get_latest(&IDENTITY_KEY)? {
            record.check(&Record::from_bytes(&recorded)?, dir)?;
        }
        let number = |key: &[u8], what: &'static str| {
            let stored = clocks.get_latest(key)?;
            let number = stored.map(|bytes| records::number_from_bytes(what, &bytes)).transpose();
            number.map_err(|cause| StoreError::record(what, &cause))
        };
        let life = number(&LIFE_KEY, "life")?;
        let life_before = number(&LIFE_BEFORE_KEY, "life before")?;
        let mark = Hlc(number(&MARK_KEY, "mark of stamps")?.unwrap_or(0));
        let ahead = Hlc(number(&AHEAD_KEY, "mark of stamps ahead")?.unwrap_or(0));
        let promised = Hlc(number(&PROMISED_KEY, "mark of promises")?.unwrap_or(0));
        let ended = clocks.get_latest(&ENDED_KEY)?;
        let ended = ended.map(|bytes| records::lives_from_bytes(&bytes)).transpose();
        let ended = ended.map_err(|cause| StoreError::record("ended lives", &cause))?;
        let ended = ended.unwrap_or_default();
        Ok(Self { life, life_before, mark, ahead, promised, ended })
    }
}

/// A life whose name is lost.
const UNKNOWN_LIFE: Incarnation = Incarnation(0);

/// The lives of this node that have ended, as far as it knows: others may have writes of theirs
/// that it has not.
fn ended_lives(found: &Found, last: Option<Life>, now: Life) -> Vec<Incarnation> {
    let mut ended = found.ended.clone();
    let before = match (last, found.life) {
        (Some(last), _) => Some(last.incarnation),
        // The metadata were lost, and its name with them.
        (None, Some(_)) => Some(UNKNOWN_LIFE),
        (None, None) => None,
    };
    ended.extend(
        before.filter(|before| *before != now.incarnation && !found.ended.contains(before)),
    );
    ended
}

fn opened(
    life: &Life,
    last: Option<Life>,
    found: &Found,
    recovery: &Recovery,
    losses: &Losses,
) -> Opened {
    let clean = recovery.clean_shutdown && last.is_none_or(|last| last.closed);
    // The engine calls no stop a tidy one that it lost something since; its log was whole all the same.
    let is_whole = clean || losses.are_told && last.is_some_and(|last| last.closed);
    let known = |last: Life| [found.life, found.life_before].contains(&Some(last.life));
    Opened {
        incarnation: life.incarnation,
        new_incarnation: last.is_none_or(|last| last.incarnation != life.incarnation),
        clean,
        data_lost: last.is_some_and(|last| !known(last)),
        unproven: last.is_none() && found.life.is_some(),
        tail_lost: !is_whole && last.is_none_or(|last| !last.synced),
        lost: losses.told.clone(),
        reset_vnodes: 0,
        recovered_records: recovery.replayed_batches,
        torn_bytes: recovery.torn_tail_bytes,
    }
}

impl Inner {
    fn begin_work(&self, options: &StoreOptions) -> Result<(), StoreError> {
        if options.workers > 0 {
            let workers = Workers::start(&self.db, options.workers).map_err(StoreError::Threads)?;
            *self.workers.lock() = Some(workers);
        }
        if options.log == LogMode::Driven {
            *self.driver.lock() = self.db.log_driver();
        }
        Ok(())
    }

    /// Makes this start's life durable on both sides, before the first dot. `last` is what the
    /// metadata name.
    fn begin_life(&self, record: &Record, last: Option<Life>) -> Result<(), StoreError> {
        let mut batch = WriteBatch::new();
        batch.put(&self.clocks, IDENTITY_KEY, record.to_bytes());
        batch.put(&self.clocks, LIFE_KEY, records::number_to_bytes(self.life.life));
        match last {
            Some(last) => {
                batch.put(&self.clocks, LIFE_BEFORE_KEY, records::number_to_bytes(last.life));
            }
            None => batch.delete(&self.clocks, LIFE_BEFORE_KEY),
        }
        if !self.ended.is_empty() {
            batch.put(&self.clocks, ENDED_KEY, records::lives_to_bytes(&self.ended));
        }
        self.db.write(batch)?;
        self.db.sync()?;
        identity::save_record(&*self.metadata, record)?;
        self.life.save(&*self.metadata)
    }
}
