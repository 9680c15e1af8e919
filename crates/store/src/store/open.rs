//! Opening and closing.

use std::path::Path;

use meridian_lsm::{Recovery, SyncPolicy, TreeConfig, WriteBatch};
use meridian_types::Incarnation;
use meridian_vfs::Fs;

use super::found::FoundVnodes;
use super::*;
use crate::identity::{self, Identity, Record};
use crate::merge::{RecordMerge, RowMerge};
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
    /// Writes found in the log.
    pub recovered_records: u64,
    /// Bytes at the end of the log that no sync had covered and that were cut.
    pub torn_bytes: u64,
}

impl Store {
    /// Opens the store in `dir`, or creates it. `fresh_incarnation` is a random number; `now` the
    /// wall clock.
    ///
    /// # Errors
    /// [`StoreError::Foreign`] for a directory of another node, cluster or ring, and any corruption:
    /// then nothing was changed that another start would miss.
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
        let catalog = catalog::load(&*metadata)?;
        let clocks_config = TreeConfig {
            memtable_bytes: CLOCKS_MEMTABLE_BYTES.min(options.memtable_bytes),
            ..TreeConfig::new(CLOCKS_TREE).with_merge(Arc::new(RecordMerge))
        };
        let (db, recovery) = Db::open(fs, dir, options.db(), vec![clocks_config])?;
        let clocks = db.tree(CLOCKS_TREE).ok_or_else(|| StoreError::CorruptRecord {
            record: "list of trees".to_owned(),
            cause: "the tree of the clocks is missing".to_owned(),
        })?;
        db.set_time(now.0);
        let found = Found::load(&clocks, &record, dir)?;
        let last = Life::load(&*metadata)?;
        let life = Life {
            synced: options.sync == SyncPolicy::Always,
            ..Life::next(last, found.life, recovery.clean_shutdown, fresh_incarnation)
        };
        let floor = found.mark.max(found.ahead);
        let opened = opened(&life, last, &found, &recovery);
        let mut vnodes = FoundVnodes::load(&clocks, &db.snapshot(), count)?;
        vnodes.judge(&opened);
        vnodes.record(&db, &clocks)?;
        let inner = Inner {
            stamps: Stamps::new(found.mark.max(found.promised), options.max_clock_ahead_ms, now),
            reservations: Reservations::default(),
            told: Mutex::default(),
            ended: ended_lives(&found, last, life),
            promised_before: found.promised,
            write_ids: WriteIds::new(options.write_id_table_bytes, options.write_id_ttl_ms),
            actor: Actor { node: actor_node, incarnation: life.incarnation },
            view: ArcSwap::from_pointee(View {
                catalog: Arc::default(),
                tables: BTreeMap::new(),
                keyspaces: vnodes.into_keyspaces(count, floor, life.incarnation),
            }),
            floor,
            dir: dir.to_owned(),
            partitioner: options.partitioner,
            memtable_bytes: options.memtable_bytes,
            catalog_change: Mutex::new(()),
            closed: AtomicBool::new(false),
            workers: Mutex::new(None),
            driver: Mutex::new(None),
            counters: Counters::default(),
            db,
            clocks,
            metadata,
            count,
            life,
        };
        inner.configure_orphans()?;
        inner.install(Arc::new(catalog))?;
        inner.begin_life(&record, last)?;
        inner.begin_work(&options)?;
        Ok((Self { inner: Arc::new(inner) }, opened))
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

/// The lives of this node that have ended, as far as it knows: others may have writes of theirs
/// that it has not.
fn ended_lives(found: &Found, last: Option<Life>, now: Life) -> Vec<Incarnation> {
    let mut ended = found.ended.clone();
    let before = match (last, found.life) {
        (Some(last), _) => Some(last.incarnation),
        // The metadata were lost, and its name with them.
        (None, Some(_)) => Some(Incarnation(0)),
        (None, None) => None,
    };
    ended.extend(
        before.filter(|before| *before != now.incarnation && !found.ended.contains(before)),
    );
    ended
}

fn opened(life: &Life, last: Option<Life>, found: &Found, recovery: &Recovery) -> Opened {
    let clean = recovery.clean_shutdown && last.is_none_or(|last| last.closed);
    let known = |last: Life| [found.life, found.life_before].contains(&Some(last.life));
    Opened {
        incarnation: life.incarnation,
        new_incarnation: last.is_none_or(|last| last.incarnation != life.incarnation),
        clean,
        data_lost: last.is_some_and(|last| !known(last)),
        unproven: last.is_none() && found.life.is_some(),
        tail_lost: !clean && last.is_none_or(|last| !last.synced),
        recovered_records: recovery.replayed_batches,
        torn_bytes: recovery.torn_tail_bytes,
    }
}

impl Inner {
    /// Gives trees of tables that the catalog does not know (the metadata were wiped) their merge
    /// operator, so that they are flushed and compacted soundly until the catalog comes again.
    fn configure_orphans(&self) -> Result<(), StoreError> {
        for name in self.db.trees() {
            if records::is_table_tree(&name) {
                let policy = SharedPolicy::new(ConflictPolicy::default());
                let config = TreeConfig::new(name).with_merge(Arc::new(RowMerge::new(policy)));
                self.db.create_tree(config)?;
            }
        }
        Ok(())
    }

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
