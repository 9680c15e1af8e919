//! What there is in a directory whose manifest is lost. Reads everything, changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use meridian_vfs::Fs;

use super::judge::Found;
use crate::batch::decode_op;
use crate::blob;
use crate::blob::reader::BlobFile;
use crate::care::open_table;
use crate::coding::Decoder;
use crate::digest::digest;
use crate::error::Error;
use crate::key::{Seqno, compare, seqno_of};
use crate::read::merge_iter::Position;
use crate::table::cursor::TableCursor;
use crate::table::format;
use crate::table::reader::{Garbage, Table, read_metadata};
use crate::version::edit::TableRecord;
use crate::version::state::State;
use crate::wal::format::BatchRecord;
use crate::wal::reader::{Damage, SegmentReader, Sink};
use crate::wal::segment;

/// A table that is not used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// The file as it was found.
    pub file: PathBuf,
    /// Why it is not used.
    pub why: String,
}

#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) found: BTreeMap<u64, Found>,
    /// Cannot be read or attributed; those of earlier repairs as well.
    pub(super) damaged: BTreeSet<u64>,
    pub(super) aside: Vec<SetAside>,
    /// Sound, but for a blob file that is gone.
    pub(super) bereft: BTreeMap<u64, SetAside>,
    pub(super) blobs: BTreeMap<u64, Arc<BlobFile>>,
    /// Above every id in a file's name or in a table.
    pub(super) next: u64,
}

pub(super) fn tables(fs: &dyn Fs, dir: &Path) -> Result<Tables, Error> {
    let mut tables = Tables { next: 1, blobs: blobs(fs, dir)?, ..Tables::default() };
    tables.next = tables.blobs.keys().last().map_or(1, |last| last.saturating_add(1));
    for name in fs.list(dir)? {
        if name.extension().is_some_and(|end| end == super::ASIDE) {
            if let Some(id) = format::id_of(&name.with_extension("")) {
                tables.damaged.insert(id);
                tables.next = tables.next.max(id + 1);
            }
            continue;
        }
        let Some(id) = format::id_of(&name) else { continue };
        tables.next = tables.next.max(id.saturating_add(1));
        let why = match table(fs, dir, id) {
            Ok(Some(found)) => {
                let mentioned = found.origin.inputs.iter().chain(&found.origin.replaced);
                let last = mentioned.max().map_or(0, |last| last.saturating_add(1));
                tables.next = tables.next.max(last);
                let shares = &mut found.record.blobs.iter();
                if let Some(share) = shares.find(|share| !tables.blobs.contains_key(&share.file)) {
                    let blob = blob::format::path(dir, share.file);
                    let why = format!("{}, which it refers to, is missing", blob.display());
                    tables.bereft.insert(id, SetAside { file: dir.join(name), why });
                } else {
                    tables.found.insert(id, found);
                }
                continue;
            }
            Ok(None) => "a table of version 1 does not say whose it is".to_owned(),
            Err(damage @ Error::Corruption { .. }) => damage.to_string(),
            Err(cause) => return Err(cause),
        };
        tables.damaged.insert(id);
        tables.aside.push(SetAside { file: dir.join(name), why });
    }
    Ok(tables)
}

/// What tables say against a manifest that can be read: that a tree is flushed further, or that what
/// the manifest needs and is gone went for what the manifest does not know.
pub(super) fn contradiction(
    fs: &dyn Fs,
    dir: &Path,
    state: &State,
) -> Result<Option<String>, Error> {
    let mut missing = BTreeSet::new();
    for tree in state.trees.values() {
        for record in tree.tables.values() {
            if !fs.exists(&format::path(dir, record.id))? {
                missing.insert(record.id);
                continue;
            }
            match open_table(fs, dir, record) {
                Ok(table) => {
                    if let Err(what) = tree.check_flushed(record.id, table.flushed()) {
                        return Ok(Some(what));
                    }
                }
                Err(Error::Corruption { .. }) => {}
                Err(cause) => return Err(cause),
            }
        }
    }
    let floor = state.wal_floor;
    let log_is_missing = floor > 0 && !fs.exists(&segment::path(dir, floor))?;
    for id in fs.list(dir)?.iter().filter_map(|name| format::id_of(name)) {
        let unknown = state.trees.values().all(|tree| !tree.tables.contains_key(&id));
        if !unknown || (missing.is_empty() && !log_is_missing) {
            continue;
        }
        let origin = match read_metadata(fs, &format::path(dir, id)) {
            Ok((meta, _bytes)) => meta.origin,
            Err(Error::Corruption { .. }) => None,
            Err(cause) => return Err(cause),
        };
        let Some(origin) = origin.filter(|origin| state.trees.contains_key(&origin.tree)) else {
            continue;
        };
        let mut gone = origin.inputs.iter().chain(&origin.replaced);
        if let Some(gone) = gone.find(|input| missing.contains(input)) {
            let what = format!("it needs table {gone:016x}, which table {id:016x} has replaced");
            return Ok(Some(what));
        }
        if log_is_missing && origin.flushed > state.trees[&origin.tree].flushed {
            let what = format!("it needs segment {floor:016x} of the log, and not table {id:016x}");
            return Ok(Some(what));
        }
    }
    Ok(None)
}

/// A table that is sound from end to end; `None`: of version 1.
fn table(fs: &dyn Fs, dir: &Path, id: u64) -> Result<Option<Found>, Error> {
    let path = format::path(dir, id);
    let (meta, bytes) = read_metadata(fs, &path)?;
    let Some(record) = meta.record(bytes, digest(&*fs.open(&path)?)?) else { return Ok(None) };
    let Some(origin) = meta.origin else { return Ok(None) };
    if record.id != id {
        return Err(Error::corruption(
            path,
            0,
            format!("by its metadata it is table {}", record.id),
        ));
    }
    read_through(Arc::new(open_table(fs, dir, &record)?))
        .map_err(|cause| match cause {
            None => Error::corruption(path, 0, "what is in it is not what its metadata says"),
            Some(cause) => cause,
        })
        .map(|()| Some(Found { record, origin }))
}

/// The blob files. What is damaged in one stays an error of those who read it.
pub(super) fn blobs(fs: &dyn Fs, dir: &Path) -> Result<BTreeMap<u64, Arc<BlobFile>>, Error> {
    let mut blobs = BTreeMap::new();
    for name in fs.list(dir)? {
        let Some(id) = blob::format::id_of(&name) else { continue };
        match blob::reader::describe(fs, &dir.join(name)) {
            Ok(record) => {
                let garbage = Arc::new(Garbage::default());
                blobs.insert(id, Arc::new(BlobFile::open(fs, dir, record, garbage)?));
            }
            Err(Error::Corruption { .. }) => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(blobs)
}

pub(super) fn open(
    fs: &dyn Fs,
    dir: &Path,
    record: &TableRecord,
    blobs: &BTreeMap<u64, Arc<BlobFile>>,
) -> Result<Arc<Table>, Error> {
    open_table(fs, dir, record)?.with_blobs(blobs).map(Arc::new)
}

/// Reads every entry. `Err(None)`: they are not what the record says.
fn read_through(table: Arc<Table>) -> Result<(), Option<Error>> {
    let record = table.record.clone();
    let mut cursor = TableCursor::new(table, false);
    cursor.go(Position::First)?;
    let mut last: Option<(Vec<u8>, u64)> = None;
    let mut entries = 0;
    while cursor.valid() {
        let (key, tag) = (cursor.key(), cursor.tag());
        let ascends =
            last.as_ref().is_none_or(|last| compare((&last.0, last.1), (key, tag)).is_lt());
        let inside = *record.smallest <= *key
            && *key <= *record.largest
            && (record.min_seqno..=record.max_seqno).contains(&seqno_of(tag));
        if !ascends || !inside {
            return Err(None);
        }
        last = Some((key.to_vec(), tag));
        entries += 1;
        cursor.go(Position::Next)?;
    }
    if entries == record.entries { Ok(()) } else { Err(None) }
}

/// What the log holds.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// The first of the segments that follow each other up to the last one; 0: there is none.
    pub(super) floor: u64,
    /// A segment that is missing before it.
    pub(super) gap: Option<u64>,
    pub(super) first: Option<Seqno>,
    pub(super) last: Seqno,
    /// Trees with operations in it.
    pub(super) trees: BTreeSet<u32>,
}

impl Sink for Log {
    fn batch(&mut self, _path: &Path, batch: BatchRecord<'_>, _at: u64) -> Result<(), Error> {
        self.first.get_or_insert(batch.first);
        self.last = self.last.max(batch.first.saturating_add(u64::from(batch.count)) - 1);
        let mut decoder = Decoder::new(batch.ops);
        // Whoever replays it says what is wrong with it.
        while let Ok(op) = decode_op(&mut decoder) {
            self.trees.insert(op.tree);
        }
        Ok(())
    }

    fn damaged(&mut self, _damage: Damage<'_>) -> Result<(), Error> {
        Ok(())
    }
}

pub(super) fn log(fs: &dyn Fs, dir: &Path) -> Result<Log, Error> {
    let ids = segment::list(fs, dir)?;
    let mut log = Log::default();
    for (at, &id) in ids.iter().enumerate().rev() {
        log.floor = id;
        if at > 0 && ids[at - 1] + 1 != id {
            log.gap = Some(id - 1);
            break;
        }
    }
    let floor = log.floor;
    for id in ids.into_iter().filter(|id| *id >= floor) {
        SegmentReader::open(fs, dir, id)?.replay(None, &mut log)?;
    }
    Ok(log)
}
