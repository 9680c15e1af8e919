//! Looking into the files of a database that nobody has open, without changing any: for the
//! operator who wants to know what is there, and what of it is sound.
//!
//! Every function reads files only; a database that runs may be looked at, too, but its files go
//! on changing meanwhile.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use meridian_vfs::Fs;

use crate::batch::decode_op;
use crate::blob;
use crate::blob::format::{BlobRecord, Reference};
use crate::blob::reader::{BlobFile, describe};
use crate::care::open_table;
use crate::coding::Decoder;
use crate::digest::digest;
use crate::error::Error;
use crate::key::{Seqno, ValueKind, is_apart, kind_of, seqno_of};
use crate::options::{LEVELS, TreeConfig};
use crate::read::merge_iter::{Direction, MergeIter, Position, Source};
use crate::stats::{LevelStats, TreeStats};
use crate::table::cursor::TableCursor;
use crate::table::reader::read_metadata;
use crate::version::edit::TableRecord;
use crate::version::manifest::{self, Manifest};
use crate::version::state::{State, TreeState};
use crate::wal::format::{ChunkKind, decode_batch};
use crate::wal::reader::{Head, SegmentReader};
use crate::wal::segment;

/// What the manifest says of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableInfo {
    /// Its file.
    pub file: PathBuf,
    /// The tree it belongs to.
    pub tree: String,
    /// Its level.
    pub level: u8,
    /// Its bytes.
    pub bytes: u64,
    /// BLAKE3 of the file.
    pub digest: [u8; 32],
    /// Its first key.
    pub smallest: Bytes,
    /// Its last key.
    pub largest: Bytes,
    /// Its oldest write.
    pub min_seqno: Seqno,
    /// Its newest write.
    pub max_seqno: Seqno,
    /// Versions in it.
    pub entries: u64,
    /// Tombstones among them.
    pub deletes: u64,
    /// Partitions of its index and filter; 0: both are whole. `None`: the table itself was not read.
    pub partitions: Option<u64>,
}

/// What the manifest says of a blob file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlobInfo {
    /// Its file.
    pub file: PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// BLAKE3 of the file.
    pub digest: [u8; 32],
    /// Bytes of its records that tables refer to; the others are garbage.
    pub live_bytes: u64,
}

/// One value in a blob file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlobEntry {
    /// Where its record begins.
    pub offset: u64,
    /// The key that it was written for.
    pub key: Bytes,
    /// Its bytes.
    pub value_bytes: usize,
    /// Its bytes as they are stored.
    pub stored_bytes: usize,
}

/// What the manifest says of a tree.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TreeInfo {
    /// Its id in the log.
    pub id: u32,
    /// Its settings, without merge operator and filter.
    pub config: TreeConfig,
    /// Its merge operator's name; empty for none.
    pub merge: String,
    /// Everything up to this write is in its tables.
    pub flushed: Seqno,
    /// By level, then by key.
    pub tables: Vec<TableInfo>,
    /// Its blob files, oldest first.
    pub blobs: Vec<BlobInfo>,
}

impl TreeInfo {
    /// Its levels and blob files in figures. What only a database that is open counts is 0: memory,
    /// and everything since the opening, so write amplification too.
    #[must_use]
    pub fn stats(&self) -> TreeStats {
        let mut levels = vec![LevelStats::default(); LEVELS];
        for table in &self.tables {
            if let Some(level) = levels.get_mut(usize::from(table.level)) {
                level.tables += 1;
                level.bytes += table.bytes;
            }
        }
        TreeStats {
            name: self.config.name.clone(),
            levels,
            blobs: self.blobs.len() as u64,
            blob_bytes: self.blobs.iter().map(|blob| blob.bytes).sum(),
            blob_live_bytes: self.blobs.iter().map(|blob| blob.live_bytes).sum(),
            approximate_entries: self.tables.iter().map(|table| table.entries).sum(),
            ..TreeStats::default()
        }
    }
}

/// What a manifest says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ManifestInfo {
    /// Its file.
    pub file: PathBuf,
    /// All trees.
    pub trees: Vec<TreeInfo>,
    /// The first segment of the log that is needed.
    pub wal_floor: u64,
    /// The log's last segment and its length, if the database was closed in order.
    pub closed: Option<(u64, u64)>,
    /// Bytes of a torn last record.
    pub torn_bytes: u64,
}

/// One thing found in a segment of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WalItem {
    /// A chunk of batches.
    Chunk {
        /// Where it begins.
        offset: u64,
        /// Its bytes, with header.
        bytes: u64,
        /// What of the segment was durable when it was written.
        durable: u64,
        /// Its batches: first seqno and number of operations.
        batches: Vec<(Seqno, u32)>,
    },
    /// One operation of a batch; only when asked for.
    Operation {
        /// Its number.
        seqno: Seqno,
        /// `put`, `delete` or `merge`.
        kind: &'static str,
        /// The tree's id.
        tree: u32,
        /// The key.
        key: Vec<u8>,
        /// Bytes of the value.
        value_bytes: usize,
    },
    /// The database was closed here.
    Closed {
        /// Where the chunk begins.
        offset: u64,
    },
    /// Bytes that are no chunk: a torn tail if nothing follows, damage if something does.
    Unreadable {
        /// Where they begin.
        from: u64,
        /// Where the next chunk begins, or the file ends.
        to: u64,
    },
}

/// The header of a segment of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WalInfo {
    /// Its id, by its name.
    pub segment: u64,
    /// The length of the segment before it that belongs to the log; `None` if the header cannot
    /// be read.
    pub previous_len: Option<u64>,
    /// The file's bytes.
    pub bytes: u64,
}

/// One version in a table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The key.
    pub key: Bytes,
    /// The write's number.
    pub seqno: Seqno,
    /// `put`, `delete` or `merge`.
    pub kind: &'static str,
    /// Bytes of the value.
    pub value_bytes: usize,
}

const fn name_of(kind: ValueKind) -> &'static str {
    match kind {
        ValueKind::Put => "put",
        ValueKind::Delete => "delete",
        ValueKind::Merge => "merge",
    }
}

/// Reads the manifest in `dir`.
///
/// # Errors
/// [`Error::Corruption`] when it is damaged or missing.
pub fn manifest(fs: &dyn Fs, dir: &Path) -> Result<ManifestInfo, Error> {
    let (state, torn_bytes) = load(fs, dir)?;
    let trees = state.trees.values().map(|tree| {
        let mut tables: Vec<TableInfo> =
            tree.tables.values().map(|record| info(dir, &tree.record.name, record)).collect();
        tables.sort_by(|a, b| (a.level, &a.smallest).cmp(&(b.level, &b.smallest)));
        TreeInfo {
            id: tree.record.id,
            config: tree.record.config(),
            merge: tree.record.merge.clone(),
            flushed: tree.flushed,
            blobs: blobs(dir, tree),
            tables,
        }
    });
    let (wal_floor, closed) = (state.wal_floor, state.closed);
    let file = manifest::path(dir);
    Ok(ManifestInfo { file, trees: trees.collect(), wal_floor, closed, torn_bytes })
}

fn blobs(dir: &Path, tree: &TreeState) -> Vec<BlobInfo> {
    let mut live: BTreeMap<u64, u64> = BTreeMap::new();
    for share in tree.tables.values().flat_map(|table| &table.blobs) {
        *live.entry(share.file).or_default() += share.bytes;
    }
    let info = |record: &BlobRecord| BlobInfo {
        file: blob::format::path(dir, record.id),
        bytes: record.bytes,
        digest: record.digest,
        live_bytes: live.get(&record.id).copied().unwrap_or(0),
    };
    tree.blobs.values().map(info).collect()
}

fn load(fs: &dyn Fs, dir: &Path) -> Result<(State, u64), Error> {
    let loaded = Manifest::load(fs, dir)?
        .ok_or_else(|| Error::corruption(manifest::path(dir), 0, "the manifest is missing"))?;
    Ok((loaded.state, loaded.torn))
}

fn info(dir: &Path, tree: &str, record: &TableRecord) -> TableInfo {
    TableInfo {
        file: crate::table::format::path(dir, record.id),
        tree: tree.to_owned(),
        level: record.level,
        bytes: record.bytes,
        digest: record.digest,
        smallest: record.smallest.clone(),
        largest: record.largest.clone(),
        min_seqno: record.min_seqno,
        max_seqno: record.max_seqno,
        entries: record.entries,
        deletes: record.deletes,
        partitions: None,
    }
}

fn parent(file: &Path) -> &Path {
    file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// Reads a table, every checksum compared, and hands its versions to `each`, in order. What the
/// manifest beside it does not know is what the table says of itself.
///
/// # Errors
/// [`Error::InvalidArgument`] when the manifest does not know the file and the file does not say
/// whose it is; [`Error::Corruption`] with the damaged place.
pub fn table(fs: &dyn Fs, file: &Path, each: &mut dyn FnMut(Entry)) -> Result<TableInfo, Error> {
    let dir = parent(file);
    let (state, _torn) = load(fs, dir)?;
    let id = file.file_name().and_then(|name| crate::table::format::id_of(Path::new(name)));
    let known = id.and_then(|id| {
        let of_tree = |tree: &TreeState| {
            tree.tables.get(&id).map(|record| (tree.record.name.clone(), record.clone()))
        };
        state.trees.values().find_map(of_tree)
    });
    let (tree, record) = match known {
        Some(known) => known,
        None => told_by_itself(fs, dir, file)?,
    };
    let opened = open_table(fs, dir, &record)?;
    opened.verify()?;
    let partitions = Some(opened.partitions() as u64);
    let source = Source::Table(TableCursor::new(Arc::new(opened), false));
    let mut versions = MergeIter::new(vec![source], Direction::Forward, Position::First)?;
    while versions.valid() {
        let (tag, key) = (versions.tag(), Bytes::copy_from_slice(versions.key()));
        let (kind, stored) = (name_of(kind_of(tag)), versions.value());
        let value_bytes = match Reference::decode(&stored) {
            Ok(reference) if is_apart(tag) => reference.value_len as usize,
            _ => stored.len(),
        };
        each(Entry { key, seqno: seqno_of(tag), kind, value_bytes });
        versions.advance()?;
    }
    Ok(TableInfo { partitions, ..info(dir, &tree, &record) })
}

/// Tree and record of a table that no manifest knows.
fn told_by_itself(fs: &dyn Fs, dir: &Path, file: &Path) -> Result<(String, TableRecord), Error> {
    let unknown = || {
        let manifest = manifest::path(dir);
        let what = format!("{} knows no table {}", manifest.display(), file.display());
        Error::invalid(what)
    };
    if !fs.exists(file)? {
        return Err(unknown());
    }
    let (meta, bytes) = read_metadata(fs, file)?;
    let record = meta.record(bytes, digest(&*fs.open(file)?)?).ok_or_else(unknown)?;
    Ok((meta.origin.map(|origin| origin.name).unwrap_or_default(), record))
}

/// Reads a blob file, every checksum compared, and hands its values to `each`, in order.
///
/// # Errors
/// [`Error::InvalidArgument`] when the name is not a blob file's; [`Error::Corruption`] with the
/// damaged place.
pub fn blob(fs: &dyn Fs, file: &Path, each: &mut dyn FnMut(BlobEntry)) -> Result<(), Error> {
    let record = describe(fs, file)?;
    let opened = BlobFile::open(fs, parent(file), record, Arc::default())?;
    opened.each(&mut |offset, header, key| {
        let (value_bytes, stored_bytes) = (header.value_len as usize, header.stored_len as usize);
        each(BlobEntry { offset, key, value_bytes, stored_bytes });
    })
}

/// Reads a segment of the log and hands what is in it to `each`, in order; `operations`: each
/// operation as well. Damage is reported, not an error: what lies behind it is read.
///
/// # Errors
/// [`Error::InvalidArgument`] when the name is not a segment's.
pub fn wal(
    fs: &dyn Fs,
    file: &Path,
    operations: bool,
    each: &mut dyn FnMut(WalItem),
) -> Result<WalInfo, Error> {
    let id = file.file_name().and_then(|name| segment::id_of(Path::new(name)));
    let Some(id) = id else {
        return Err(Error::invalid(format!("{} is not named as a segment is", file.display())));
    };
    let reader = SegmentReader::open(fs, parent(file), id)?;
    let previous_len = match reader.head() {
        Head::Sound(header) => Some(header.previous_len),
        Head::Absent | Head::Damaged(_) => None,
    };
    let mut at = crate::wal::format::SEGMENT_HEADER as u64;
    while at < reader.used() {
        let Some((header, payload)) = reader.chunk(at)? else {
            let to = reader.next_chunk(at)?.unwrap_or_else(|| reader.used());
            each(WalItem::Unreadable { from: at, to });
            at = to;
            continue;
        };
        let bytes = (crate::wal::format::CHUNK_HEADER + payload.len()) as u64;
        match header.kind {
            ChunkKind::Close => each(WalItem::Closed { offset: at }),
            ChunkKind::Batches => {
                let batches = batches(reader.path(), at, &payload)?;
                each(WalItem::Chunk { offset: at, bytes, durable: header.durable, batches });
                if operations {
                    each_operation(reader.path(), at, &payload, each)?;
                }
            }
        }
        at += bytes;
    }
    Ok(WalInfo { segment: id, previous_len, bytes: reader.used() })
}

fn batches(path: &Path, at: u64, payload: &[u8]) -> Result<Vec<(Seqno, u32)>, Error> {
    let mut decoder = Decoder::new(payload);
    let mut found = Vec::new();
    while !decoder.is_empty() {
        let batch = decode_batch(&mut decoder)
            .map_err(|_malformed| Error::corruption(path, at, "a batch does not fill its chunk"))?;
        found.push((batch.first, batch.count));
    }
    Ok(found)
}

fn each_operation(
    path: &Path,
    at: u64,
    payload: &[u8],
    each: &mut dyn FnMut(WalItem),
) -> Result<(), Error> {
    let malformed = |_malformed| Error::corruption(path, at, "an operation cannot be decoded");
    let mut decoder = Decoder::new(payload);
    while !decoder.is_empty() {
        let batch = decode_batch(&mut decoder).map_err(malformed)?;
        let mut ops = Decoder::new(batch.ops);
        let mut seqno = batch.first;
        while !ops.is_empty() {
            let op = decode_op(&mut ops).map_err(malformed)?;
            let (kind, value_bytes) = (name_of(op.kind), op.value.len());
            let (tree, key) = (op.tree, op.key.to_vec());
            each(WalItem::Operation { seqno, kind, tree, key, value_bytes });
            seqno += 1;
        }
    }
    Ok(())
}

/// Reads everything of the database in `dir` that nobody has open, and compares it with its
/// checksums and digests; tells `done` of each sound file.
///
/// # Errors
/// [`Error::Corruption`] with the first damaged file and place; [`Error::Io`] with `WouldBlock`
/// when somebody has it open.
pub fn verify(fs: &dyn Fs, dir: &Path, done: &mut dyn FnMut(&Path, u64)) -> Result<(), Error> {
    let (state, _torn) = load(fs, dir)?;
    let _lock = fs.lock(&dir.join("LOCK"))?;
    done(&manifest::path(dir), 0);
    for record in state.trees.values().flat_map(|tree| tree.tables.values()) {
        open_table(fs, dir, record)?.verify()?;
        done(&crate::table::format::path(dir, record.id), record.bytes);
    }
    for record in state.trees.values().flat_map(|tree| tree.blobs.values()) {
        BlobFile::open(fs, dir, *record, Arc::default())?.verify()?;
        done(&blob::format::path(dir, record.id), record.bytes);
    }
    super::verify::verify_log(fs, dir, &state, done)
}
