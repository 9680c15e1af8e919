//! The database: what callers hold, and the state that everything in this crate shares. Wiring
//! only; each verb is in the room that its doc names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use meridian_vfs::{Fs, LockGuard};
use parking_lot::{Mutex, RwLock};

use crate::batch::WriteBatch;
use crate::blob::format::BlobRecord;
use crate::blob::reader::BlobFile;
use crate::commit::Commit;
use crate::commit::log::Log;
use crate::compaction::limiter::Limiter;
use crate::error::Error;
use crate::jobs::Jobs;
use crate::key::Seqno;
use crate::memtable::Memtable;
use crate::options::{Compaction, DbOptions, MAX_TREES, RateLimit, Tiers, TreeConfig};
use crate::read::snapshot::Snapshot;
use crate::recovery::{self, Recovery};
use crate::stats::{self, DbStats};
use crate::table::cache::BlockCache;
use crate::table::metadata::Origin;
use crate::table::reader::{Garbage, Table};
use crate::tree::{Shared, Tree, View};
use crate::version::edit::{Change, TableRecord, TreeRecord};
use crate::version::levels::Version;
use crate::version::manifest::Manifest;
use crate::version::trees;

/// The state behind every [`Db`] handle. Lock order: manifest, trees, then those of the log.
pub(crate) struct Core {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) dir: PathBuf,
    pub(crate) options: DbOptions,
    pub(crate) shared: Arc<Shared>,
    pub(crate) log: Log,
    pub(crate) trees: RwLock<BTreeMap<String, Tree>>,
    pub(crate) manifest: Mutex<Manifest>,
    /// Whether `TREES` lacks something that the manifest has and no table says. Under its lock.
    pub(crate) unnoted: AtomicBool,
    /// The last write that a dropped tree may have had.
    pub(crate) dropped: AtomicU64,
    /// Memtables sealed and not flushed.
    pub(crate) sealed: AtomicUsize,
    /// The id of the next table file.
    pub(crate) next_table: AtomicU64,
    pub(crate) cache: Arc<BlockCache>,
    pub(crate) garbage: Arc<Garbage>,
    pub(crate) jobs: Jobs,
    pub(crate) limiter: Limiter,
    /// Milliseconds since 1970; 0 until somebody says so.
    pub(crate) now_ms: AtomicU64,
    /// Held until the last handle is gone.
    pub(crate) _lock: Box<dyn LockGuard>,
}

/// A database: named trees of ordered bytes behind one log. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    pub(crate) core: Arc<Core>,
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").field("dir", &self.core.dir).finish_non_exhaustive()
    }
}

impl Db {
    /// Opens (or creates) the database in `path` and replays its log. Trees that exist and are
    /// not listed in `trees` are opened with the settings they had, without merge operator and
    /// filter until [`Db::create_tree`] names them again; listed ones that do not exist are
    /// created.
    ///
    /// # Errors
    /// [`Error::Corruption`] when what was durable is damaged: nothing is changed or removed then.
    /// [`Error::Io`] with `WouldBlock` when somebody else has it open.
    pub fn open(
        fs: Arc<dyn Fs>,
        path: &Path,
        options: DbOptions,
        trees: Vec<TreeConfig>,
    ) -> Result<(Self, Recovery), Error> {
        recovery::open(fs, path, options, trees)
    }

    /// The tree of this name, created (durably) if it is not there, with these settings from now
    /// on.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for settings out of range, or another merge operator than the
    /// tree was created with.
    pub fn create_tree(&self, config: TreeConfig) -> Result<Tree, Error> {
        let name = config.name.clone();
        self.create_trees(vec![config])?;
        self.tree(&name).ok_or(Error::TreeDropped { tree: name })
    }

    /// All of them with one edit, or none: opening a database with many new trees costs one sync.
    pub(crate) fn create_trees(&self, configs: Vec<TreeConfig>) -> Result<(), Error> {
        let mut manifest = self.core.manifest.lock();
        let mut changes = Vec::new();
        let mut configured: Vec<(Tree, TreeConfig)> = Vec::new();
        let mut created: Vec<(u32, TreeConfig)> = Vec::new();
        let mut names = BTreeSet::new();
        let mut next = manifest.state().next_tree;
        for config in configs {
            check_config(&config)?;
            if !names.insert(config.name.clone()) {
                return Err(Error::invalid(format!("tree {} is listed twice", config.name)));
            }
            if let Some(tree) = self.tree(&config.name) {
                let record = manifest.state().trees.get(&tree.id()).map(|state| &state.record);
                check_operator(&config, record)?;
                let settings = TreeRecord::new(tree.id(), &config);
                if record != Some(&settings) {
                    changes.push(Change::ConfigureTree(settings));
                }
                configured.push((tree, config));
            } else if manifest.state().trees.len() + created.len() >= MAX_TREES {
                return Err(Error::invalid(format!("there are {MAX_TREES} trees already")));
            } else {
                changes.push(Change::CreateTree(TreeRecord::new(next, &config)));
                created.push((next, config));
                next += 1;
            }
        }
        if !changes.is_empty() {
            self.core.commit_edit(&mut manifest, &changes)?;
            self.core.unnoted.store(true, Ordering::Relaxed);
        }
        for (tree, config) in configured {
            tree.configure(config);
            self.core.jobs.notify();
        }
        self.core.note_if_asked(&manifest)?;
        let mut trees = self.core.trees.write();
        for (id, config) in created {
            let tree = Tree::new(id, config, Version::empty(), self.core.shared.clone());
            trees.insert(tree.name().to_owned(), tree);
        }
        Ok(())
    }

    /// The tree of this name.
    #[must_use]
    pub fn tree(&self, name: &str) -> Option<Tree> {
        self.core.trees.read().get(name).cloned()
    }

    /// The names of all trees, sorted.
    #[must_use]
    pub fn trees(&self) -> Vec<String> {
        self.core.trees.read().keys().cloned().collect()
    }

    /// Drops a tree and everything in it. Readers that are at it finish.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when there is no such tree.
    pub fn drop_tree(&self, name: &str) -> Result<(), Error> {
        let mut manifest = self.core.manifest.lock();
        let Some(tree) = self.tree(name) else {
            return Err(Error::invalid(format!("there is no tree {name:?}")));
        };
        // Writers check this under the commit lock, so none of them numbers a write for the tree
        // after the edit.
        {
            let _queue = self.core.log.queue()?;
            tree.set_dropped(true);
        }
        self.core
            .commit_edit(&mut manifest, &[Change::DropTree { tree: tree.id() }])
            .inspect_err(|cause| tree.set_dropped(!matches!(cause, Error::Full { .. })))?;
        self.core.trees.write().remove(name);
        // A file goes only when it is written down that its tree is gone.
        let version = tree.view().version.clone();
        version.tables().for_each(|table| self.core.garbage.obsolete(table.record.id));
        self.core.dropped.fetch_max(self.core.shared.visible(), Ordering::Relaxed);
        let noted = self.core.note(&manifest);
        self.core.forget(&tree);
        noted
    }

    /// Numbers a batch, hands it to the log, and makes it visible: all of it, in all its trees, at
    /// once. When it is durable is up to the sync policy: see [`Db::wait`].
    ///
    /// # Errors
    /// Nothing of it is visible then; after [`Error::Poisoned`] it may be there after a restart.
    pub fn write(&self, batch: WriteBatch) -> Result<Commit, Error> {
        self.core.write(&batch)
    }

    /// As [`Db::write`], for callers that use the batch's memory again.
    ///
    /// # Errors
    /// As [`Db::write`].
    pub fn write_ref(&self, batch: &WriteBatch) -> Result<Commit, Error> {
        self.core.write(batch)
    }

    /// Blocks until the sync policy's promise holds for a commit: with `Always` until its bytes
    /// are durable (together with those of everybody else who waits), otherwise not at all.
    ///
    /// # Errors
    /// [`Error::Poisoned`]: whether it is durable is unknown until the database is opened again.
    /// [`Error::WouldWait`]: the log has a driver.
    pub fn wait(&self, commit: &Commit) -> Result<(), Error> {
        self.core.log.wait(commit.seqno())
    }

    /// Whether [`Db::wait`] would return at once.
    #[must_use]
    pub fn is_settled(&self, commit: &Commit) -> bool {
        self.core.log.is_settled(commit.seqno())
    }

    /// Calls `call` when [`Db::wait`] would return: at once on this thread if it holds already,
    /// otherwise on the WAL thread (or that of [`crate::LogDriver`]), all of a group together.
    /// `call` must be quick and must not call the database.
    pub fn on_settled(&self, commit: &Commit, call: Box<dyn FnOnce(Result<(), Error>) + Send>) {
        self.core.log.on_settled(commit.seqno(), call);
    }

    /// Settled when everything is that is visible now.
    #[must_use]
    pub fn latest(&self) -> Commit {
        let visible = self.visible_seqno();
        Commit::new(visible, visible)
    }

    /// The present moment: what is visible now stays readable at it.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::take(&self.core.shared)
    }

    /// Makes everything written so far durable, whatever the sync policy.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when the disk refuses; nothing is known about what it kept.
    pub fn sync(&self) -> Result<(), Error> {
        self.core.log.sync()
    }

    /// Writes every memtable to a table, and waits for that.
    ///
    /// # Errors
    /// What a flush says: the data stays in memory and in the log.
    pub fn flush(&self) -> Result<(), Error> {
        self.core.flush_all()
    }

    /// Flushes, and merges everything of a tree into its deepest level.
    ///
    /// # Errors
    /// What a flush or compaction says: the tables stay as they were.
    pub fn compact(&self, tree: &str) -> Result<(), Error> {
        let Some(tree) = self.tree(tree) else {
            return Err(Error::invalid(format!("there is no tree {tree:?}")));
        };
        self.core.compact_all(&tree)
    }

    /// Runs one pending flush, compaction or file removal on this thread, if there is one: for
    /// those who bring no [`crate::Workers`]. Says whether there was.
    ///
    /// # Errors
    /// What the job says; nothing is lost, and it is pending still.
    pub fn poll_job(&self) -> Result<bool, Error> {
        self.core.poll_job()
    }

    /// Runs what is pending of flushes and compactions and waits for what others run, until there
    /// is neither: for those who measure, or leave a database to others.
    ///
    /// # Errors
    /// What a job says; nothing is lost, and it is pending still.
    pub fn finish_jobs(&self) -> Result<(), Error> {
        self.core.finish_jobs()
    }

    /// Reads every table, the manifest and every finished segment of the log, and compares them
    /// with their digests and checksums.
    ///
    /// # Errors
    /// [`Error::Corruption`] with the first damaged file and place.
    pub fn verify(&self) -> Result<(), Error> {
        self.verify_with(&mut |_progress| {})
    }

    /// Tells the database the time, in milliseconds since 1970: for compaction filters, expiry and
    /// time windows. [`crate::Workers`] do so by themselves.
    pub fn set_time(&self, now_ms: u64) {
        self.core.now_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Figures of the trees, the log, the cache and the jobs.
    #[must_use]
    pub fn stats(&self) -> DbStats {
        stats::of(&self.core)
    }

    /// Writes every memtable to a table ([`DbOptions::flush_on_close`]), syncs everything and notes
    /// a clean shutdown in the log; every later write is refused. Stop the [`crate::Workers`] first.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when the disk refuses: as after a crash. Anything else is why a memtable
    /// was not flushed: the database is closed in order, and what no table has is in the log. For
    /// want of room that is no error.
    pub fn close(self) -> Result<(), Error> {
        let flushed = if self.core.options.flush_on_close { self.core.flush_all() } else { Ok(()) };
        let mut manifest = self.core.manifest.lock();
        // From here on the log refuses everything, so its length is final.
        let (segment, bytes) = self.core.log.close(Error::Closed)?;
        match manifest.commit(&[Change::Closed { segment, bytes }]) {
            // The log says it as well; only its last chunk is without a witness then.
            Ok(()) | Err(Error::Full { .. }) => {}
            Err(cause) => return Err(cause),
        }
        flushed.or_else(|cause| if cause.is_for_want_of_room() { Ok(()) } else { Err(cause) })
    }

    /// The error that made the database refuse writes, if one did.
    #[must_use]
    pub fn poisoned(&self) -> Option<Error> {
        self.core.log.poisoned()
    }

    /// Why the last flush or compaction failed, if it did.
    #[must_use]
    pub fn job_failure(&self) -> Option<Error> {
        self.core.jobs.last_failure()
    }

    /// The last write that a power cut cannot take.
    #[must_use]
    pub fn durable_seqno(&self) -> Seqno {
        self.core.log.durable()
    }

    /// The last write that readers see.
    #[must_use]
    pub fn visible_seqno(&self) -> Seqno {
        self.core.shared.visible()
    }
}

impl Core {
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    /// Makes an edit durable, or stops the database.
    pub(crate) fn commit_edit(
        &self,
        manifest: &mut Manifest,
        changes: &[Change],
    ) -> Result<(), Error> {
        self.log.check()?;
        manifest.commit(changes).map_err(|cause| match cause {
            full @ Error::Full { .. } => full,
            cause => {
                let file = manifest.path();
                self.log.poison(Error::Poisoned { file, cause: cause.to_string() })
            }
        })
    }

    /// Seals a tree's active memtable; under the commit lock.
    pub(crate) fn seal(&self, tree: &Tree, last: Seqno) {
        tree.seal(last);
        self.log.end_segment_soon();
        self.sealed.fetch_add(1, Ordering::AcqRel);
        self.jobs.notify();
    }

    /// Seals the largest memtable when all together are too large and nothing is sealed yet; under
    /// the commit lock.
    pub(crate) fn relieve(&self, last: Seqno) {
        let total = self.shared.supply.allocated();
        if total <= self.options.memtable_total_bytes || self.sealed.load(Ordering::Acquire) > 0 {
            return;
        }
        // The guard must not be held while sealing: that takes the jobs' lock.
        let largest = {
            let trees = self.trees.read();
            trees.values().max_by_key(|tree| tree.view().active.bytes()).cloned()
        };
        if let Some(largest) = largest {
            self.seal(&largest, last);
        }
    }

    /// Writes down what no table says: behind an edit, and before anything relies on it.
    pub(crate) fn note(&self, manifest: &Manifest) -> Result<(), Error> {
        self.unnoted.store(true, Ordering::Relaxed);
        self.note_if_asked(manifest)
    }

    /// Writes down tables that the next edit adds. Without it the note is wrong, and written anew
    /// later.
    pub(crate) fn note_ahead(
        &self,
        manifest: &Manifest,
        tree: u32,
        tables: &[TableRecord],
    ) -> Result<(), Error> {
        self.unnoted.store(true, Ordering::Relaxed);
        let mut state = manifest.state().clone();
        if let Some(known) = state.trees.get_mut(&tree) {
            known.tables.extend(tables.iter().map(|table| (table.id, table.clone())));
        }
        let dropped = self.dropped.load(Ordering::Relaxed);
        trees::write(&*self.fs, &self.dir, &state, dropped, &self.garbage.tables())
    }

    pub(crate) fn note_if_asked(&self, manifest: &Manifest) -> Result<(), Error> {
        if self.unnoted.load(Ordering::Relaxed) {
            let obsolete = self.garbage.tables();
            let dropped = self.dropped.load(Ordering::Relaxed);
            trees::write(&*self.fs, &self.dir, manifest.state(), dropped, &obsolete)?;
            self.unnoted.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// What a table of the tree that is begun now says of itself; the caller knows the rest.
    pub(crate) fn origin(&self, tree: &Tree) -> Origin {
        // Under the lock: an edit and what it makes obsolete are one.
        let manifest = self.manifest.lock();
        let known = manifest.state().trees.get(&tree.id());
        Origin {
            tree: tree.id(),
            name: tree.name().to_owned(),
            flushed: known.map_or(0, |known| known.flushed),
            replaced: self.garbage.tables(),
            ..Origin::default()
        }
    }

    pub(crate) fn open_blob(&self, record: BlobRecord) -> Result<BlobFile, Error> {
        let opened = BlobFile::open(&*self.fs, &self.dir, record, self.garbage.clone())?;
        Ok(opened.with_cache(self.cache.clone()))
    }

    pub(crate) fn open_table(&self, record: TableRecord) -> Result<Table, Error> {
        Table::open(&*self.fs, &self.dir, record, self.cache.clone(), self.garbage.clone())
    }

    /// Empties a dropped tree's view; its files go when the last reader is done. Under the
    /// manifest lock.
    fn forget(&self, tree: &Tree) {
        let view = tree.view().clone();
        view.version.tables().for_each(|table| table.mark_obsolete());
        view.version.blobs().values().for_each(|used| used.file.mark_obsolete());
        let mut sealed = 0;
        let empty = Arc::new(Memtable::new(self.shared.supply.clone()));
        tree.update(|view| {
            sealed = view.sealed.len();
            let version = Arc::new(Version::empty());
            View { active: empty.clone(), sealed: Vec::new(), version }
        });
        self.sealed.fetch_sub(sealed, Ordering::AcqRel);
    }
}

pub(crate) fn check_config(config: &TreeConfig) -> Result<(), Error> {
    if config.name.is_empty() || config.name.len() > 255 {
        return Err(Error::invalid("a tree's name has 1 to 255 bytes"));
    }
    if !(1 << 10..=64 << 10).contains(&config.block_bytes) {
        return Err(Error::invalid("block_bytes is 1 KiB to 64 KiB"));
    }
    if config.memtable_bytes < 64 << 10 {
        return Err(Error::invalid("memtable_bytes is at least 64 KiB"));
    }
    check_compaction(config.compaction)
}

fn check_compaction(compaction: Compaction) -> Result<(), Error> {
    let tiers = match compaction {
        Compaction::Leveled { l0_files, l1_bytes, factor } => {
            if l0_files == 0 || l1_bytes == 0 || factor < 2 {
                let what = "l0_files and l1_bytes are at least 1, factor at least 2";
                return Err(Error::invalid(what));
            }
            return Ok(());
        }
        Compaction::SizeTiered(tiers) => tiers,
        Compaction::TimeWindow { window_ms, tiers } => {
            if window_ms == 0 {
                return Err(Error::invalid("window_ms is at least 1"));
            }
            tiers
        }
        Compaction::Hybrid { tiers, run_bytes, factor } => {
            if run_bytes == 0 || factor < 2 {
                return Err(Error::invalid("run_bytes is at least 1, factor at least 2"));
            }
            tiers
        }
    };
    let Tiers { min_runs, max_runs, low_percent, high_percent, .. } = tiers;
    if min_runs < 2 || max_runs < min_runs || low_percent > 100 || high_percent < 100 {
        let what = "min_runs is at least 2, max_runs at least that, 100 % between the shares";
        return Err(Error::invalid(what));
    }
    Ok(())
}

pub(crate) fn check_options(options: &DbOptions) -> Result<(), Error> {
    if options.memtable_total_bytes < 1 << 20 {
        return Err(Error::invalid("memtable_total_bytes is at least 1 MiB"));
    }
    if options.wal_segment_bytes == 0 || options.table_bytes == 0 {
        return Err(Error::invalid("wal_segment_bytes and table_bytes are at least 1"));
    }
    if matches!(options.rate_limit, RateLimit::BytesPerSecond(rate) if rate < 1 << 20) {
        return Err(Error::invalid("rate_limit is at least 1 MiB a second"));
    }
    Ok(())
}

/// A tree that was created with a merge operator is opened with the same one, or none for now.
pub(crate) fn check_operator(
    config: &TreeConfig,
    record: Option<&TreeRecord>,
) -> Result<(), Error> {
    let Some(record) = record else { return Ok(()) };
    if record.merge == config.merge_name() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "tree {} was created with merge operator {:?}, not {:?}",
        record.name,
        record.merge,
        config.merge_name()
    )))
}
