//! Opening: manifest, orphans, log replay, a new segment.
//!
//! INVARIANT: everything is read and checked before anything is changed; a database that is
//! corrupt is left as it was found.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use meridian_vfs::Fs;
use parking_lot::{Mutex, RwLock};

use crate::batch::decode_op;
use crate::coding::Decoder;
use crate::commit::log::Log;
use crate::db::{Core, Db, check_config, check_operator, check_options};
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
use crate::wal::format::BatchRecord;
use crate::wal::reader::SegmentReader;
use crate::wal::segment;
use crate::wal::writer::WalWriter;

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
    /// Bytes of an unfinished manifest edit that were cut.
    pub torn_manifest_bytes: u64,
    /// The last write recovered.
    pub last_seqno: Seqno,
}

/// The log as found: where it ends and which segment comes next.
struct LogEnd {
    next_segment: u64,
    previous_len: u64,
    last: Seqno,
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
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs.sync_dir(parent)?;
    }
    let lock = fs.lock(&dir.join("LOCK"))?;
    let mut recovery = Recovery::default();
    let (state, fresh) = load_state(&*fs, dir, &mut recovery)?;
    let shared = Arc::new(Shared::new());
    let cache = Arc::new(BlockCache::new(options.block_cache_bytes));
    let garbage = Arc::new(Garbage::default());
    let open_table = |record: &TableRecord| {
        Table::open(&*fs, dir, record.clone(), cache.clone(), garbage.clone()).map(Arc::new)
    };
    let trees = build_trees(dir, &state, configs.clone(), &shared, &open_table)?;
    let end = replay(&*fs, dir, &state, &trees, &mut recovery)?;
    recovery.clean_shutdown |= fresh;
    recovery.last_seqno = end.last;
    shared.publish(end.last);

    let mut manifest = Manifest::write(fs.clone(), dir, state)?;
    let wal = WalWriter::begin(fs.clone(), dir, end.next_segment, end.previous_len, end.last)?;
    if manifest.state().wal_floor == 0 {
        let segment = end.next_segment;
        manifest.commit(&[Change::WalFloor { segment, last: end.last }])?;
    }
    let next_table = AtomicU64::new(remove_orphans(&*fs, dir, manifest.state())?);
    let db = Db {
        core: Arc::new(Core {
            log: Log::new(wal, options.sync, options.wal_segment_bytes),
            fs,
            dir: dir.to_path_buf(),
            options,
            shared,
            trees: RwLock::new(trees),
            manifest: Mutex::new(manifest),
            sealed: AtomicUsize::new(0),
            next_table,
            cache,
            garbage,
            jobs: Jobs::default(),
            _lock: lock,
        }),
    };
    db.create_trees(configs)?;
    db.core.seal_what_is_full()?;
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
        name.extension().is_some_and(|extension| extension == "log" || extension == "sst")
    };
    if let Some(name) = fs.list(dir)?.iter().find(|name| is_data(name)) {
        let what = format!("it is missing, and {} is there", name.display());
        return Err(Error::corruption(crate::version::manifest::path(dir), 0, what));
    }
    Ok((State { next_tree: 1, next_table: 1, ..State::default() }, true))
}

fn build_trees(
    dir: &Path,
    state: &State,
    mut configs: Vec<TreeConfig>,
    shared: &Arc<Shared>,
    open_table: &dyn Fn(&TableRecord) -> Result<Arc<Table>, Error>,
) -> Result<BTreeMap<String, Tree>, Error> {
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
        let mut tables = Vec::new();
        for record in tree.tables.values() {
            tables.push((usize::from(record.level), open_table(record)?));
        }
        let version = Version::empty().with(&[], &tables);
        version
            .check()
            .map_err(|what| Error::corruption(crate::version::manifest::path(dir), 0, what))?;
        let tree = Tree::new(id, config, version, shared.clone());
        trees.insert(tree.name().to_owned(), tree);
    }
    Ok(trees)
}

/// Replays every segment that the manifest still needs.
fn replay(
    fs: &dyn Fs,
    dir: &Path,
    state: &State,
    trees: &BTreeMap<String, Tree>,
    recovery: &mut Recovery,
) -> Result<LogEnd, Error> {
    let mut readers = open_segments(fs, dir, state.wal_floor)?;
    let mut end =
        LogEnd { next_segment: state.wal_floor.max(1), previous_len: 0, last: state.last_seqno };
    if readers.last().is_some_and(|last| last.1.header().is_none()) {
        let popped = readers.pop();
        if let Some((_, damaged)) = popped.filter(|(id, _)| *id == state.wal_floor) {
            return Err(Error::corruption(damaged.path(), 0, "the segment's header is damaged"));
        }
    }
    let by_id: BTreeMap<u32, &Tree> = trees.values().map(|tree| (tree.id(), tree)).collect();
    let mut target = Replay { state, trees: by_id, last: None, segment: 0, recovery };
    for at in 0..readers.len() {
        let (id, reader) = &readers[at];
        let claimed = readers
            .get(at + 1)
            .and_then(|(_, next)| next.header())
            .map(|header| header.previous_len);
        target.segment = *id;
        let path = reader.path();
        let segment_end =
            reader.replay(claimed, &mut |batch, offset| target.apply(path, batch, offset))?;
        end.next_segment = id + 1;
        end.previous_len = segment_end.valid;
        target.recovery.torn_tail_bytes = segment_end.torn;
        target.recovery.clean_shutdown = segment_end.closed && segment_end.torn == 0;
        target.recovery.torn_file = (segment_end.torn > 0).then(|| path.to_path_buf());
    }
    end.last = end.last.max(target.last.unwrap_or(0));
    if let Some((segment, bytes)) = state.closed
        && (end.next_segment, end.previous_len) != (segment + 1, bytes)
    {
        let what = format!("the log ended at {bytes} when the database was closed");
        let found = if end.next_segment == segment + 1 { end.previous_len } else { 0 };
        return Err(Error::corruption(segment::path(dir, segment), found, what));
    }
    if let Some((_, last)) = readers.last() {
        // A killed process leaves bytes that only the operating system has; from now on the log
        // vouches for them.
        last.sync()?;
    }
    Ok(end)
}

/// The segments from `floor` on, without gaps.
fn open_segments(fs: &dyn Fs, dir: &Path, floor: u64) -> Result<Vec<(u64, SegmentReader)>, Error> {
    let ids: Vec<u64> = segment::list(fs, dir)?.into_iter().filter(|id| *id >= floor).collect();
    let expected = (floor.max(1)..).take(ids.len().max(usize::from(floor > 0)));
    let present: BTreeSet<u64> = ids.iter().copied().collect();
    for id in expected {
        if !present.contains(&id) {
            let what = "the segment is missing and the log needs it";
            return Err(Error::corruption(segment::path(dir, id), 0, what));
        }
    }
    let mut readers: Vec<(u64, SegmentReader)> = Vec::new();
    for id in ids {
        if let Some((_, before)) = readers.last()
            && before.header().is_none()
        {
            return Err(Error::corruption(before.path(), 0, "the segment's header is damaged"));
        }
        readers.push((id, SegmentReader::open(fs, dir, id)?));
    }
    Ok(readers)
}

/// Where replayed batches go.
struct Replay<'a> {
    state: &'a State,
    trees: BTreeMap<u32, &'a Tree>,
    last: Option<Seqno>,
    segment: u64,
    recovery: &'a mut Recovery,
}

impl Replay<'_> {
    fn apply(&mut self, path: &Path, batch: BatchRecord<'_>, offset: u64) -> Result<(), Error> {
        let corrupt = |what: String| Error::corruption(path, offset, what);
        let follows = match self.last {
            Some(last) => batch.first == last + 1,
            None => batch.first >= 1 && batch.first <= self.state.last_seqno + 1,
        };
        if !follows || batch.count == 0 {
            let what = format!("batch {} does not follow {:?}", batch.first, self.last);
            return Err(corrupt(what));
        }
        let mut decoder = Decoder::new(batch.ops);
        for at in 0..u64::from(batch.count) {
            let op = decode_op(&mut decoder)
                .map_err(|_malformed| corrupt("an operation cannot be decoded".to_owned()))?;
            let seqno = batch.first + at;
            self.last = Some(seqno);
            let Some(tree) = self.trees.get(&op.tree) else {
                if op.tree < self.state.next_tree {
                    continue;
                }
                return Err(corrupt(format!("tree {} was never created", op.tree)));
            };
            if self.state.trees.get(&op.tree).is_some_and(|known| seqno <= known.flushed) {
                continue;
            }
            let active = &tree.view().active;
            active.note_segment(self.segment);
            active.insert(op.key, seqno, op.kind, op.value);
            self.recovery.replayed_operations += 1;
        }
        if !decoder.is_empty() {
            return Err(corrupt("a batch is longer than its operations".to_owned()));
        }
        self.recovery.replayed_batches += 1;
        Ok(())
    }
}

/// Removes what no manifest needs: old segments, and tables that a crash left half made. Returns an
/// id that no table file ever had.
fn remove_orphans(fs: &dyn Fs, dir: &Path, state: &State) -> Result<u64, Error> {
    for id in segment::list(fs, dir)?.into_iter().filter(|id| *id < state.wal_floor) {
        fs.remove(&segment::path(dir, id))?;
    }
    let known: BTreeSet<u64> =
        state.trees.values().flat_map(|tree| tree.tables.keys().copied()).collect();
    let mut next = state.next_table;
    for name in fs.list(dir)? {
        if let Some(id) = id_of(&name) {
            next = next.max(id + 1);
            if !known.contains(&id) {
                fs.remove(&dir.join(name))?;
            }
        }
    }
    Ok(next)
}
