//! Opening: manifest, orphans, log replay, a new segment.
//!
//! INVARIANT: everything is read and checked before anything is changed; a database that is
//! corrupt is left as it was found. With [`crate::OnDamage::OpenAndReport`] a log with damage is
//! opened all the same: its damaged segments get a second name before anything else is changed, and
//! what could be read is in tables before they lose the first. With
//! [`crate::OnDamage::OpenWithoutTables`] so is one with damaged tables; what is lost is durable in
//! `LOST` before the manifest forgets them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use meridian_vfs::Fs;
use parking_lot::{Mutex, RwLock};

use self::lost::Losses;
use self::replay::replay;
use crate::blob;
use crate::blob::format::BlobRecord;
use crate::blob::reader::BlobFile;
use crate::commit::log::Log;
use crate::compaction::limiter::Limiter;
use crate::db::{Core, Db, check_config, check_operator, check_options};
use crate::dir::sync_name;
use crate::error::Error;
use crate::flush::trim_log;
use crate::jobs::Jobs;
use crate::key::Seqno;
use crate::options::{DbOptions, OnDamage, TreeConfig};
use crate::table::cache::BlockCache;
use crate::table::format::id_of;
use crate::table::reader::{Garbage, Table};
use crate::tree::{Shared, Tree};
use crate::version::edit::{Change, TableRecord};
use crate::version::levels::Version;
use crate::version::manifest::Manifest;
use crate::version::state::{State, TreeState};
use crate::version::trees;
use crate::wal::segment;
use crate::wal::writer::WalWriter;

mod lost;
mod replay;

pub use lost::LostTable;
pub use replay::LostRange;

/// What opening a database found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Whether it was closed in order; a new database counts as such.
    pub clean_shutdown: bool,
    /// Batches found in the log.
    pub replayed_batches: u64,
    /// Operations put back into memtables.
    pub replayed_operations: u64,
    /// Bytes at the end of the log that no sync had covered and that were cut.
    pub torn_tail_bytes: u64,
    /// The log's last segment, which they were in.
    pub torn_file: Option<PathBuf>,
    /// Bytes of an unfinished manifest edit, or of the witness of a finished one, that were cut.
    pub torn_manifest_bytes: u64,
    /// The last write recovered.
    pub last_seqno: Seqno,
    /// What was durable in the log and cannot be read. With [`crate::OnDamage::OpenAndReport`] only
    /// the opening that found it tells; with [`crate::OnDamage::OpenWithoutTables`] every one, until
    /// [`Db::forget_lost`].
    pub lost: Vec<LostRange>,
    /// Tables that cannot be read; only with [`crate::OnDamage::OpenWithoutTables`], and told by
    /// every opening until [`Db::forget_lost`].
    pub lost_tables: Vec<LostTable>,
    /// Files with damage, kept under a second name by this opening or an earlier one until
    /// somebody removes them: whoever was stopped before it dealt with `lost` finds them here.
    pub set_aside: Vec<PathBuf>,
}

pub(crate) fn open(
    fs: Arc<dyn Fs>,
    dir: &Path,
    options: DbOptions,
    configs: Vec<TreeConfig>,
) -> Result<(Db, Recovery), Error> {
    check_options(&options)?;
    configs.iter().try_for_each(check_config)?;
    fs.create_dir_all(dir)?;
    sync_name(&*fs, dir)?;
    let lock = fs.lock(&dir.join("LOCK"))?;
    let mut recovery = Recovery::default();
    let (mut state, fresh) = load_state(&*fs, dir, &mut recovery)?;
    let mut without = Without::of(&*fs, dir, options.on_damage)?;
    let shared = Arc::new(Shared::new());
    let cache = Arc::new(BlockCache::new(options.block_cache_bytes));
    let garbage = Arc::new(Garbage::default());
    let open = Openers {
        fs: &*fs,
        dir,
        cache: &cache,
        garbage: &garbage,
        suspects: without.suspects.clone(),
    };
    let trees = build_trees(&open, &mut state, configs.clone(), &shared, &mut without)?;
    let end = replay(&*fs, dir, &state, &trees, options.on_damage, &mut recovery)?;
    let is_log_damaged = !recovery.lost.is_empty();
    recovery.clean_shutdown |= fresh;
    without.settle(&*fs, dir, &mut recovery)?;
    recovery.last_seqno = end.last;
    shared.visible.begin(end.last);

    let mut manifest = Manifest::write(fs.clone(), dir, state)?;
    let wal = WalWriter::begin(fs.clone(), dir, end.next_segment, end.previous_len, end.last)?;
    if manifest.state().wal_floor == 0 {
        let segment = end.next_segment;
        manifest.commit(&[Change::WalFloor { segment, last: end.last }])?;
    }
    let next_table = AtomicU64::new(remove_orphans(&*fs, dir, manifest.state())?);
    let noted = trees::load(&*fs, dir)?;
    let is_noted = recovery.lost_tables.is_empty()
        && noted.as_ref().is_some_and(|noted| noted.has_trees_of(manifest.state()));
    let dropped = noted.map_or(0, |noted| noted.state.last_seqno);
    let db = Db {
        core: Arc::new(Core {
            limiter: Limiter::new(options.rate_limit),
            log: Log::new(wal, options.sync, options.wal_segment_bytes),
            fs,
            dir: dir.to_path_buf(),
            options,
            shared,
            trees: RwLock::new(trees),
            manifest: Mutex::new(manifest),
            unnoted: AtomicBool::new(!is_noted),
            dropped: AtomicU64::new(dropped),
            sealed: AtomicUsize::new(0),
            next_table,
            cache,
            garbage,
            jobs: Jobs::default(),
            now_ms: AtomicU64::new(0),
            _lock: lock,
        }),
    };
    db.create_trees(configs)?;
    if is_log_damaged {
        // From here on nothing needs the damaged segments any more.
        db.core.flush_all()?;
    } else {
        db.core.seal_what_is_full()?;
    }
    trim_log(&db.core)?;
    lost::clear_suspects(&*db.core.fs, &without.suspects)?;
    Ok((db, recovery))
}

/// The manifest's state; and whether there was no database yet.
fn load_state(fs: &dyn Fs, dir: &Path, recovery: &mut Recovery) -> Result<(State, bool), Error> {
    if let Some(loaded) = Manifest::load(fs, dir)? {
        recovery.torn_manifest_bytes = loaded.torn;
        return Ok((loaded.state, false));
    }
    let is_data = |name: &PathBuf| {
        let data = ["log", "sst", "blob"];
        name.extension().is_some_and(|extension| data.iter().any(|data| extension == *data))
    };
    if let Some(name) = fs.list(dir)?.iter().find(|name| is_data(name)) {
        let what = format!("it is missing, and {} is there", name.display());
        return Err(Error::corruption(crate::version::manifest::path(dir), 0, what));
    }
    Ok((State { next_tree: 1, next_table: 1, ..State::default() }, true))
}

/// What opens the files that the manifest knows.
struct Openers<'a> {
    fs: &'a dyn Fs,
    dir: &'a Path,
    cache: &'a Arc<BlockCache>,
    garbage: &'a Arc<Garbage>,
    /// Files to read whole.
    suspects: BTreeSet<PathBuf>,
}

impl Openers<'_> {
    fn table(&self, record: &TableRecord) -> Result<Table, Error> {
        let (cache, garbage) = (self.cache.clone(), self.garbage.clone());
        let opened = Table::open(self.fs, self.dir, record.clone(), cache, garbage)?;
        if self.suspects.contains(&crate::table::format::path(self.dir, record.id)) {
            opened.verify()?;
        }
        Ok(opened)
    }

    fn blob(&self, record: &BlobRecord) -> Result<Arc<BlobFile>, Error> {
        let opened = BlobFile::open(self.fs, self.dir, *record, self.garbage.clone())?;
        if self.suspects.contains(&blob::format::path(self.dir, record.id)) {
            opened.verify()?;
        }
        Ok(Arc::new(opened.with_cache(self.cache.clone())))
    }
}

/// What to do without files that are damaged.
struct Without {
    on_damage: OnDamage,
    /// Files to read whole.
    suspects: BTreeSet<PathBuf>,
    /// What nobody has dealt with yet.
    losses: Losses,
    /// Tables and blob files that are damaged, or are of no use without one that is.
    files: BTreeSet<PathBuf>,
}

impl Without {
    fn of(fs: &dyn Fs, dir: &Path, on_damage: OnDamage) -> Result<Self, Error> {
        let suspects = match on_damage {
            OnDamage::OpenWithoutTables => lost::suspects(fs, dir)?,
            OnDamage::Refuse | OnDamage::OpenAndReport => BTreeSet::new(),
        };
        let losses = Losses::load(fs, dir)?;
        Ok(Self { on_damage, suspects, losses, files: BTreeSet::new() })
    }

    /// The damage, if it can be done without the file; every other error is returned.
    fn damage<T>(&self, opened: Result<T, Error>) -> Result<Result<T, Error>, Error> {
        match opened {
            Err(damage)
                if damage.is_corruption() && self.on_damage == OnDamage::OpenWithoutTables =>
            {
                Ok(Err(damage))
            }
            opened => opened.map(Ok),
        }
    }

    /// Opens the tables of a tree; those that are damaged leave its state.
    fn tables(&mut self, open: &Openers<'_>, tree: &mut TreeState) -> Result<Vec<Table>, Error> {
        let (mut blobs, mut damaged) = (BTreeMap::new(), BTreeMap::new());
        for record in tree.blobs.values() {
            match self.damage(open.blob(record))? {
                Ok(file) => {
                    file.mark_installed();
                    blobs.insert(record.id, file);
                }
                Err(damage) => {
                    self.files.insert(blob::format::path(open.dir, record.id));
                    damaged.insert(record.id, damage);
                }
            }
        }
        let (mut tables, mut lost) = (Vec::new(), Vec::new());
        for record in tree.tables.values() {
            let apart = record.blobs.iter().find_map(|share| damaged.get(&share.file));
            let opened = match apart {
                Some(damage) => Err(damage.clone()),
                None => {
                    self.damage(open.table(record).and_then(|table| table.with_blobs(&blobs)))?
                }
            };
            match opened {
                Ok(table) => tables.push(table),
                Err(damage) => {
                    let table = LostTable::new(open.dir, &tree.record.name, record, &damage);
                    self.files.insert(table.file.clone());
                    self.losses.add(Losses { ranges: Vec::new(), tables: vec![table] });
                    lost.push(record.id);
                }
            }
        }
        lost.iter().for_each(|id| drop(tree.tables.remove(id)));
        if !lost.is_empty() || !damaged.is_empty() {
            let shares = tree.tables.values().flat_map(|table| &table.blobs);
            let needed: BTreeSet<u64> = shares.map(|share| share.file).collect();
            tree.blobs.retain(|id, _| needed.contains(id));
        }
        Ok(tables)
    }

    /// Keeps what is lost, and the damaged files, before anything is changed that would hide it.
    fn settle(&mut self, fs: &dyn Fs, dir: &Path, recovery: &mut Recovery) -> Result<(), Error> {
        self.files.extend(recovery.lost.iter().map(|lost| lost.file.clone()));
        let ranges = std::mem::take(&mut recovery.lost);
        self.losses.add(Losses { ranges, tables: Vec::new() });
        if self.on_damage == OnDamage::OpenWithoutTables && !self.losses.is_empty() {
            self.losses.save(fs, dir)?;
        }
        recovery.set_aside = lost::set_aside(fs, dir, &self.files)?;
        recovery.clean_shutdown &= self.losses.is_empty();
        let losses = std::mem::take(&mut self.losses);
        (recovery.lost, recovery.lost_tables) = (losses.ranges, losses.tables);
        Ok(())
    }
}

fn build_trees(
    open: &Openers<'_>,
    state: &mut State,
    mut configs: Vec<TreeConfig>,
    shared: &Arc<Shared>,
    without: &mut Without,
) -> Result<BTreeMap<String, Tree>, Error> {
    let contradicted = |what| Error::corruption(crate::version::manifest::path(open.dir), 0, what);
    let mut trees = BTreeMap::new();
    for (&id, tree) in &mut state.trees {
        let named = configs.iter().position(|config| config.name == tree.record.name);
        let config = match named {
            Some(at) => configs.swap_remove(at),
            None => tree.record.config(),
        };
        if named.is_some() {
            check_operator(&config, Some(&tree.record))?;
        }
        let mut tables = Vec::new();
        for table in without.tables(open, tree)? {
            tree.check_flushed(table.record.id, table.flushed()).map_err(contradicted)?;
            tables.push((usize::from(table.record.level), Arc::new(table)));
        }
        let version = Version::empty().with(&[], &tables);
        version.check().map_err(contradicted)?;
        let tree = Tree::new(id, config, version, shared.clone());
        trees.insert(tree.name().to_owned(), tree);
    }
    Ok(trees)
}

/// Removes what no manifest needs: old segments, and tables and blob files that a crash left half
/// made. Returns an id that no such file ever had.
fn remove_orphans(fs: &dyn Fs, dir: &Path, state: &State) -> Result<u64, Error> {
    for id in segment::list(fs, dir)?.into_iter().filter(|id| *id < state.wal_floor) {
        fs.remove(&segment::path(dir, id))?;
    }
    let known: BTreeSet<u64> = state
        .trees
        .values()
        .flat_map(|tree| tree.tables.keys().chain(tree.blobs.keys()))
        .copied()
        .collect();
    let mut next = state.next_table;
    let mut removed = false;
    for name in fs.list(dir)? {
        if let Some(id) = id_of(&name).or_else(|| blob::format::id_of(&name)) {
            next = next.max(id + 1);
            if !known.contains(&id) {
                fs.remove(&dir.join(name))?;
                removed = true;
            }
        }
    }
    // A table that comes back would be taken for one of a version if the manifest is lost.
    if removed {
        fs.sync_dir(dir)?;
    }
    Ok(next)
}
