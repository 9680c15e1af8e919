//! A manifest is lost or damaged: it is written anew from what the tables say of themselves, from
//! `TREES`, and from the log.
//!
//! Which tables count is decided in `judge`. They keep their places where the levels that they were
//! written for are in order; a tree in which they are not (tables move down without being written
//! anew) is merged into one sorted run. The log is replayed by the next opening, as always.
//!
//! If the manifest is sound, it is kept, without the tables that are damaged or missing; unless the
//! tables prove that it is an older one, or that it says what is not so.
//!
//! INVARIANT: nothing is deleted, and what is renamed keeps its id in its name, so that a repair
//! that is stopped anywhere is begun again with the same result. The manifest comes last.

mod judge;
mod survey;

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use meridian_vfs::Fs;

use self::judge::{Judged, Verdict, judge};
use self::survey::Log;
use crate::blob::reader::BlobFile;
use crate::care::open_table;
use crate::compaction::stream::Stream;
use crate::error::Error;
use crate::key::{Seqno, ValueKind, kind_of};
use crate::options::{LEVELS, TreeConfig};
use crate::read::merge_iter::{Direction, MergeIter, Position, Source};
use crate::table::cursor::TableCursor;
use crate::table::format;
use crate::table::metadata::Origin;
use crate::table::reader::Table;
use crate::table::writer::TableWriter;
use crate::version::edit::{TableRecord, TableTimes, TreeRecord};
use crate::version::levels::Version;
use crate::version::manifest::{self, Manifest};
use crate::version::state::{State, TreeState};
use crate::version::trees::{self, Trees};

pub use self::survey::SetAside;

/// What a file that is not used is called from then on.
const ASIDE: &str = "aside";
/// Bytes at which the next table of a merged tree begins: as [`crate::DbOptions::table_bytes`].
const TABLE_BYTES: u64 = 64 << 20;

/// A tree of the repaired database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairedTree {
    /// Its number in tables and log.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Tables that count.
    pub tables: u64,
    /// Entries in them.
    pub entries: u64,
    /// Whether they have to be merged, for nobody knows their order.
    pub merged: bool,
    /// Whether it cannot be told which tables count: an input of a merge that may not have ended is
    /// damaged. All of them are used; what was deleted may be back, and operands may count twice.
    pub doubtful: bool,
}

/// What a repair found, and what it did or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// What is wrong with the manifest; `None`: nothing.
    pub manifest: Option<String>,
    /// Whether the list of trees was there. Without it, trees whose data is in the log only are
    /// lost, and what was deleted just before may be back.
    pub trees_known: bool,
    /// The trees.
    pub trees: Vec<RepairedTree>,
    /// Tables that cannot be used. They get a second ending, `.aside`, and stay until somebody
    /// removes them. If there are any, data may be missing, and what it deleted may be back.
    pub set_aside: Vec<SetAside>,
    /// Tables that other tables have replaced, and those of dropped trees: the next opening removes
    /// them.
    pub replaced: Vec<PathBuf>,
    /// Tables that the manifest names and that are not there.
    pub missing: Vec<PathBuf>,
    /// Trees with operations in the log, of which nothing else is known: these operations are lost.
    pub unknown_trees: Vec<u32>,
    /// Writes that neither tables nor log can have: those behind the first number and before the
    /// second one.
    pub lost_writes: Option<(Seqno, Seqno)>,
    /// Trees that nobody knows the merge operator of: their settings must be given.
    pub unknown_operators: Vec<String>,
    /// Whether it was done; otherwise nothing was changed.
    pub applied: bool,
}

impl RepairReport {
    /// Whether the repaired database holds everything that was there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.trees_known
            && self.set_aside.is_empty()
            && self.missing.is_empty()
            && self.unknown_trees.is_empty()
            && self.lost_writes.is_none()
            && !self.trees.iter().any(|tree| tree.doubtful)
    }
}

/// Writes the manifest of the database in `dir` anew. `trees`: the settings of trees, as for
/// [`crate::Db::open`]; those of trees that are not listed are taken from what is there. Without
/// `apply` nothing is changed.
///
/// # Errors
/// [`Error::InvalidArgument`] when there is no database, or a merge operator has to be known and is
/// not. [`Error::Io`]: the
/// repair may be tried again, wherever it was stopped.
pub fn repair(
    fs: Arc<dyn Fs>,
    dir: &Path,
    trees: &[TreeConfig],
    apply: bool,
) -> Result<RepairReport, Error> {
    let _lock = fs.lock(&dir.join("LOCK"))?;
    let mut report = RepairReport { trees_known: true, ..RepairReport::default() };
    let mut repair = match Manifest::load(&*fs, dir) {
        Ok(Some(loaded)) => match survey::contradiction(&*fs, dir, &loaded.state)? {
            None => keep(fs, dir, loaded.state, &mut report)?,
            Some(what) => {
                report.manifest = Some(what);
                rebuild(fs, dir, trees, &mut report)?
            }
        },
        Ok(None) => {
            report.manifest = Some("it is missing".to_owned());
            rebuild(fs, dir, trees, &mut report)?
        }
        Err(damage @ Error::Corruption { .. }) => {
            report.manifest = Some(damage.to_string());
            rebuild(fs, dir, trees, &mut report)?
        }
        Err(cause) => return Err(cause),
    };
    let needed = report.manifest.is_some() || !report.missing.is_empty();
    if apply && (needed || !report.set_aside.is_empty()) {
        if let Some(name) = report.unknown_operators.first() {
            let what = format!("the settings of tree {name} are lost and must be given");
            return Err(Error::invalid(what));
        }
        repair.apply(&report)?;
        report.applied = true;
    }
    Ok(report)
}

/// A repair that is decided.
struct Repair<'a> {
    fs: Arc<dyn Fs>,
    dir: &'a Path,
    state: State,
    /// Trees to merge, with the settings to do it with.
    merges: Vec<(u32, TreeConfig)>,
    blobs: BTreeMap<u64, Arc<BlobFile>>,
    /// The last write that a dropped tree may have had.
    dropped: Seqno,
    /// Tables that are there and count for nothing.
    obsolete: BTreeSet<u64>,
}

/// The manifest is sound: everything stays but what is damaged or missing.
fn keep<'a>(
    fs: Arc<dyn Fs>,
    dir: &'a Path,
    mut state: State,
    report: &mut RepairReport,
) -> Result<Repair<'a>, Error> {
    for (&id, tree) in &mut state.trees {
        let mut lost = Vec::new();
        for record in tree.tables.values() {
            let file = format::path(dir, record.id);
            if !fs.exists(&file)? {
                report.missing.push(file);
            } else {
                match open_table(&*fs, dir, record).and_then(|table| table.verify()) {
                    Ok(()) => continue,
                    Err(damage @ Error::Corruption { .. }) => {
                        report.set_aside.push(SetAside { file, why: damage.to_string() });
                    }
                    Err(cause) => return Err(cause),
                }
            }
            lost.push(record.id);
        }
        lost.iter().for_each(|table| {
            tree.tables.remove(table);
        });
        report.trees.push(told(id, tree, false, false));
    }
    if !report.missing.is_empty() || !report.set_aside.is_empty() {
        // The log need not end where it did when there were all tables.
        state.closed = None;
    }
    let dropped = trees::load(&*fs, dir)?.map_or(0, |noted| noted.state.last_seqno);
    let (blobs, obsolete) = (BTreeMap::new(), BTreeSet::new());
    Ok(Repair { fs, dir, state, merges: Vec::new(), blobs, dropped, obsolete })
}

fn told(id: u32, tree: &TreeState, merged: bool, doubtful: bool) -> RepairedTree {
    RepairedTree {
        id,
        name: tree.record.name.clone(),
        tables: tree.tables.len() as u64,
        entries: tree.tables.values().map(|table| table.entries).sum(),
        merged,
        doubtful,
    }
}

/// Puts a state together from everything else.
fn rebuild<'a>(
    fs: Arc<dyn Fs>,
    dir: &'a Path,
    configs: &[TreeConfig],
    report: &mut RepairReport,
) -> Result<Repair<'a>, Error> {
    let noted = trees::load(&*fs, dir)?;
    let mut tables = survey::tables(&*fs, dir)?;
    let found = std::mem::take(&mut tables.found);
    let log = survey::log(&*fs, dir)?;
    if noted.is_none() && found.is_empty() && tables.aside.is_empty() && log.floor == 0 {
        return Err(Error::invalid(format!("there is no database in {}", dir.display())));
    }
    let judged = judge(&found, &tables.damaged, noted.as_ref());
    report.trees_known = noted.is_some();
    report.set_aside = std::mem::take(&mut tables.aside);
    for (id, bereft) in std::mem::take(&mut tables.bereft) {
        if judged.replaced.contains(&id) {
            report.replaced.push(bereft.file);
        } else {
            report.set_aside.push(bereft);
        }
    }
    let mut state = trees_of(noted.as_ref(), tables.next, configs, report);
    let mut obsolete = BTreeSet::new();
    for (&id, table) in &found {
        let file = format::path(dir, id);
        match judged.verdicts.get(&id) {
            Some(Verdict::Live) => {
                let origin = &table.origin;
                let tree = state
                    .trees
                    .entry(origin.tree)
                    .or_insert_with(|| unlisted(origin.tree, &origin.name, configs, report));
                state.next_tree = state.next_tree.max(origin.tree.saturating_add(1));
                tree.tables.insert(id, table.record.clone());
                continue;
            }
            Some(Verdict::Unfinished) => {
                let why = "it is part of an ingest that did not end".to_owned();
                report.set_aside.push(SetAside { file, why });
            }
            _ => report.replaced.push(file),
        }
        obsolete.insert(id);
    }
    for (id, tree) in &mut state.trees {
        tree.flushed = judged.flushed.get(id).copied().unwrap_or(0);
    }
    let dropped = noted.as_ref().map_or(0, |noted| noted.state.last_seqno);
    follow_log(&mut state, &log, dropped, report);
    let merges = places(&*fs, dir, &mut state, &judged, &tables.blobs, configs, report)?;
    let blobs = tables.blobs;
    Ok(Repair { fs, dir, state, merges, blobs, dropped, obsolete })
}

/// The trees that are known without their tables.
fn trees_of(
    noted: Option<&Trees>,
    next_table: u64,
    configs: &[TreeConfig],
    report: &mut RepairReport,
) -> State {
    let mut state = State { next_tree: 1, next_table, ..State::default() };
    let Some(noted) = noted else { return state };
    state.next_tree = noted.state.next_tree;
    state.next_table = next_table.max(noted.state.next_table);
    for (&id, known) in &noted.state.trees {
        let mut record = known.record.clone();
        if let Some(given) = configs.iter().find(|config| config.name == record.name) {
            if given.merge_name() == record.merge {
                record = TreeRecord::new(id, given);
            } else {
                report.unknown_operators.push(record.name.clone());
            }
        }
        state.trees.insert(id, new_tree(record));
    }
    state
}

const fn new_tree(record: TreeRecord) -> TreeState {
    TreeState { record, flushed: 0, tables: BTreeMap::new(), blobs: BTreeMap::new() }
}

/// A tree that only its tables tell of.
fn unlisted(id: u32, name: &str, configs: &[TreeConfig], report: &mut RepairReport) -> TreeState {
    let given = configs.iter().find(|config| config.name == name).cloned();
    if given.is_none() {
        report.unknown_operators.push(name.to_owned());
    }
    let record = TreeRecord::new(id, &given.unwrap_or_else(|| TreeConfig::new(name)));
    new_tree(record)
}

/// Where the log begins, and what is missing between it and the tables.
fn follow_log(state: &mut State, log: &Log, dropped: Seqno, report: &mut RepairReport) {
    report.unknown_trees =
        log.trees.iter().copied().filter(|tree| *tree >= state.next_tree).collect();
    if !report.trees_known {
        let known = |tree: &u32| state.trees.contains_key(tree);
        report.unknown_trees = log.trees.iter().copied().filter(|tree| !known(tree)).collect();
    }
    let last_tree = log.trees.last().map_or(0, |tree| tree.saturating_add(1));
    state.next_tree = state.next_tree.max(last_tree);
    let tables = state.trees.values().flat_map(|tree| tree.tables.values());
    let in_tables = tables.map(|table| table.max_seqno).max().unwrap_or(0);
    let flushed = state.trees.values().map(|tree| tree.flushed).max().unwrap_or(0);
    let before = in_tables.max(flushed).max(dropped);
    let first = log.first.unwrap_or(0);
    if first > before + 1 {
        report.lost_writes = Some((before, first));
    } else if log.gap.is_some() && first > flushed + 1 {
        report.lost_writes = Some((flushed, first));
    }
    state.wal_floor = log.floor;
    state.last_seqno = before.max(first.saturating_sub(1));
}

/// Finds a level for every table; returns the trees whose tables must be merged.
fn places(
    fs: &dyn Fs,
    dir: &Path,
    state: &mut State,
    judged: &Judged,
    blobs: &BTreeMap<u64, Arc<BlobFile>>,
    configs: &[TreeConfig],
    report: &mut RepairReport,
) -> Result<Vec<(u32, TreeConfig)>, Error> {
    let mut merges = Vec::new();
    for (&id, tree) in &mut state.trees {
        let mut tables = Vec::new();
        for record in tree.tables.values() {
            tables.push((usize::from(record.level), survey::open(fs, dir, record, blobs)?));
        }
        let version = Version::empty().with(&[], &tables);
        let used = version.blobs().iter().map(|(id, used)| (*id, used.file.record));
        tree.blobs = used.collect();
        let doubtful = judged.doubtful.contains(&id);
        let merged = doubtful || version.check().is_err() || !is_ordered(&version)?;
        if merged {
            let given = configs.iter().find(|config| config.name == tree.record.name).cloned();
            merges.push((id, given.unwrap_or_else(|| tree.record.config())));
        }
        report.trees.push(told(id, tree, merged, doubtful));
    }
    Ok(merges)
}

/// Whether every version of a key is newer than those further down.
fn is_ordered(version: &Version) -> Result<bool, Error> {
    let mut cursors = Vec::new();
    let mut heap = BinaryHeap::new();
    for (level, tables) in version.levels().iter().enumerate() {
        for (at, table) in tables.iter().enumerate() {
            let rank = if level == 0 { (0, at) } else { (level, 0) };
            let mut cursor = TableCursor::new(table.clone(), false);
            cursor.go(Position::First)?;
            if cursor.valid() {
                heap.push(Reverse((
                    cursor.key().to_vec(),
                    Reverse(cursor.tag()),
                    rank,
                    cursors.len(),
                )));
                cursors.push(cursor);
            }
        }
    }
    let mut last: Option<(Vec<u8>, (usize, usize))> = None;
    while let Some(Reverse((key, _tag, rank, at))) = heap.pop() {
        if last.as_ref().is_some_and(|(before, above)| *before == key && rank < *above) {
            return Ok(false);
        }
        last = Some((key, rank));
        let cursor = &mut cursors[at];
        cursor.go(Position::Next)?;
        if cursor.valid() {
            heap.push(Reverse((cursor.key().to_vec(), Reverse(cursor.tag()), rank, at)));
        }
    }
    Ok(true)
}

impl Repair<'_> {
    fn apply(&mut self, report: &RepairReport) -> Result<(), Error> {
        for SetAside { file, .. } in &report.set_aside {
            let mut name = file.clone().into_os_string();
            name.push(".");
            name.push(ASIDE);
            self.fs.rename(file, Path::new(&name))?;
        }
        for (id, config) in std::mem::take(&mut self.merges) {
            self.merge(id, &config)?;
        }
        self.fs.sync_dir(self.dir)?;
        let obsolete: Vec<u64> = self.obsolete.iter().copied().collect();
        trees::write(&*self.fs, self.dir, &self.state, self.dropped, &obsolete)?;
        let (path, second) = (manifest::path(self.dir), self.dir.join("MANIFEST.damaged"));
        if report.manifest.is_some() && self.fs.exists(&path)? && !self.fs.exists(&second)? {
            self.fs.hard_link(&path, &second)?;
        }
        Manifest::write(self.fs.clone(), self.dir, self.state.clone()).map(drop)
    }

    /// Merges a tree into its deepest level.
    fn merge(&mut self, id: u32, config: &TreeConfig) -> Result<(), Error> {
        let Some(tree) = self.state.trees.get_mut(&id) else { return Ok(()) };
        let mut tables = Vec::new();
        for record in tree.tables.values() {
            tables.push(survey::open(&*self.fs, self.dir, record, &self.blobs)?);
        }
        let newest = |table: &Arc<Table>| table.record.times.written;
        let origin = Origin {
            tree: id,
            name: tree.record.name.clone(),
            level: u8::try_from(LEVELS - 1).unwrap_or(u8::MAX),
            times: TableTimes {
                written: tables.iter().map(newest).max().unwrap_or(0),
                ..TableTimes::default()
            },
            flushed: tree.flushed,
            inputs: tree.tables.keys().copied().collect(),
            ..Origin::default()
        };
        self.obsolete.extend(tree.tables.keys());
        // Of no order: it only holds the blob files.
        let all: Vec<_> = tables.iter().map(|table| (0, table.clone())).collect();
        let version = Version::empty().with(&[], &all);
        let sources =
            tables.into_iter().map(|table| Source::Table(TableCursor::new(table, false))).collect();
        let mut stream = Stream {
            input: MergeIter::new(sources, Direction::Forward, Position::First)?,
            end: None,
            snapshots: &[],
            config,
            version: &version,
            is_bottom: &|_key| true,
            filter: None,
            seen: None,
        };
        let compression = config.bottom_compression.unwrap_or(config.compression);
        let filter = config.compaction_filter.as_deref();
        let mut written: Vec<TableRecord> = Vec::new();
        let mut open: Option<TableWriter> = None;
        while let Some((key, kept)) = stream.next_key()? {
            if open.as_ref().is_some_and(|writer| writer.bytes() >= TABLE_BYTES)
                && let Some(full) = open.take()
            {
                written.push(full.finish()?);
            }
            for (tag, value) in kept {
                let mut writer = match open.take() {
                    Some(writer) => writer,
                    None => {
                        let origin = Origin { table: self.state.next_table, ..origin.clone() };
                        self.state.next_table += 1;
                        TableWriter::create(&*self.fs, self.dir, config, compression, origin)?
                    }
                };
                if kind_of(tag) == ValueKind::Put
                    && let Some(filter) = filter
                    && let Some(at) = filter.expiry_of(&key, &stream.value(&key, tag, &value)?)
                {
                    writer.expires(at);
                }
                writer.add(&key, tag, &value)?;
                open = Some(writer);
            }
        }
        if let Some(last) = open {
            written.push(last.finish()?);
        }
        let used: BTreeSet<u64> =
            written.iter().flat_map(|record| &record.blobs).map(|share| share.file).collect();
        tree.blobs.retain(|blob, _| used.contains(blob));
        tree.tables = written.into_iter().map(|record| (record.id, record)).collect();
        Ok(())
    }
}
