//! Opening: manifest, orphans, log replay, a new segment.
//!
//! INVARIANT: everything is read and checked before anything is changed; a database that is
//! corrupt is left as it was found. With [`crate::OnDamage::OpenAndReport`] a log with damage is
//! opened all the same: its damaged segments get a second name before anything else is changed, and
//! what could be read is in tables before they lose the first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use meridian_vfs::Fs;
use parking_lot::{Mutex, RwLock};

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
use crate::options::{DbOptions, TreeConfig};
use crate::table::cache::BlockCache;
use crate::table::format::id_of;
use crate::table::reader::{Garbage, Table};
use crate::tree::{Shared, Tree};
use crate::version::edit::{Change, TableRecord};
use crate::version::levels::Version;
use crate::version::manifest::Manifest;
use crate::version::state::State;
use crate::version::trees;
use crate::wal::segment;
use crate::wal::writer::WalWriter;

mod replay;

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
    /// What was durable in the log and cannot be read; only with
    /// [`crate::OnDamage::OpenAndReport`], and only by the opening that found it.
    pub lost: Vec<LostRange>,
    /// Segments with damage, kept under a second name by this opening or an earlier one until
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
    let (state, fresh) = load_state(&*fs, dir, &mut recovery)?;
    let shared = Arc::new(Shared::new());
    let cache = Arc::new(BlockCache::new(options.block_cache_bytes));
    let garbage = Arc::new(Garbage::default());
    let open_table = |record: &TableRecord| {
        Table::open(&*fs, dir, record.clone(), cache.clone(), garbage.clone())
    };
    let open_blob = |record: &BlobRecord| {
        let opened = BlobFile::open(&*fs, dir, *record, garbage.clone())?;
        Ok(Arc::new(opened.with_cache(cache.clone())))
    };
    let open = Openers { table: &open_table, blob: &open_blob };
    let trees = build_trees(dir, &state, configs.clone(), &shared, &open)?;
    let end = replay(&*fs, dir, &state, &trees, options.on_damage, &mut recovery)?;
    set_aside(&*fs, dir, &mut recovery)?;
    recovery.clean_shutdown |= fresh;
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
    let is_noted = noted.as_ref().is_some_and(|noted| noted.has_trees_of(manifest.state()));
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
    if recovery.lost.is_empty() {
        db.core.seal_what_is_full()?;
    } else {
        // From here on nothing needs the damaged segments any more.
        db.core.flush_all()?;
    }
    trim_log(&db.core)?;
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
    table: &'a dyn Fn(&TableRecord) -> Result<Table, Error>,
    blob: &'a dyn Fn(&BlobRecord) -> Result<Arc<BlobFile>, Error>,
}

fn build_trees(
    dir: &Path,
    state: &State,
    mut configs: Vec<TreeConfig>,
    shared: &Arc<Shared>,
    open: &Openers<'_>,
) -> Result<BTreeMap<String, Tree>, Error> {
    let contradicted = |what| Error::corruption(crate::version::manifest::path(dir), 0, what);
    let mut trees = BTreeMap::new();
    for (&id, tree) in &state.trees {
        let named = configs.iter().position(|config| config.name == tree.record.name);
        let config = match named {
            Some(at) => configs.swap_remove(at),
            None => tree.record.config(),
        };
        if named.is_some() {
            check_operator(&config, Some(&tree.record))?;
        }
        let mut blobs = BTreeMap::new();
        for record in tree.blobs.values() {
            let file = (open.blob)(record)?;
            file.mark_installed();
            blobs.insert(record.id, file);
        }
        let mut tables = Vec::new();
        for record in tree.tables.values() {
            let table = (open.table)(record)?.with_blobs(&blobs)?;
            tree.check_flushed(record.id, table.flushed()).map_err(contradicted)?;
            tables.push((usize::from(record.level), Arc::new(table)));
        }
        let version = Version::empty().with(&[], &tables);
        version.check().map_err(contradicted)?;
        let tree = Tree::new(id, config, version, shared.clone());
        trees.insert(tree.name().to_owned(), tree);
    }
    Ok(trees)
}

/// Gives the segments with damage a second name, which no trimming of the log removes.
fn set_aside(fs: &dyn Fs, dir: &Path, recovery: &mut Recovery) -> Result<(), Error> {
    let damaged: BTreeSet<&PathBuf> = recovery.lost.iter().map(|lost| &lost.file).collect();
    for file in &damaged {
        let aside = file.with_extension("log.damaged");
        if fs.exists(file)? && !fs.exists(&aside)? {
            fs.hard_link(file, &aside)?;
        }
    }
    if !damaged.is_empty() {
        fs.sync_dir(dir)?;
    }
    let names = fs.list(dir)?;
    let kept = names.iter().filter(|name| name.extension().is_some_and(|end| end == "damaged"));
    recovery.set_aside = kept.map(|name| dir.join(name)).collect();
    Ok(())
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
