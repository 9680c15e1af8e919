//! A second database in another directory that holds what this one held at one moment, made of
//! hard links: tables never change, and neither do segments of the log that are not the last.
//!
//! INVARIANT: the moment is the end of a segment. Under the manifest's lock no table is added, so
//! every write up to that end is in a linked table or segment, and none after it is. The manifest
//! comes last: without it the directory is no database.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::blob;
use crate::db::{Core, Db};
use crate::dir::{make_empty, sync_name};
use crate::error::Error;
use crate::key::Seqno;
use crate::table;
use crate::table::reader::Table;
use crate::version::manifest::Manifest;
use crate::version::state::State;
use crate::version::trees;
use crate::wal::reader::{Head, SegmentReader};
use crate::wal::segment;
use crate::wal::writer::WalWriter;

/// What a checkpoint is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Every write up to this one is in it.
    pub seqno: Seqno,
    /// Files that were linked.
    pub files: u64,
    /// Bytes of the tables and blob files among them.
    pub table_bytes: u64,
}

/// A moment of the database whose log is linked already.
struct Frozen {
    state: State,
    /// Held, so that their files stay.
    tables: Vec<Arc<Table>>,
    seqno: Seqno,
    /// Segments that were linked.
    segments: u64,
}

impl Db {
    /// Makes `dir` (absent or empty, on the same file system) a database that holds everything
    /// written before this call, and a prefix of what is written while it runs. It costs a sync of
    /// the log and a link for each file; writers go on, but for the moment that a segment takes to
    /// end. It opens as after a crash: whoever gives a lifetime its identity begins a new one.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when something is in `dir`. After any other error `dir` may hold
    /// files, but no database; this one is as it was.
    pub fn checkpoint(&self, dir: &Path) -> Result<Checkpoint, Error> {
        let core = &self.core;
        make_empty(&*core.fs, dir)?;
        // Outside the lock, so that the log that is linked is short.
        core.flush_all()?;
        let Frozen { state, tables, seqno, segments } = self.freeze(dir)?;
        for table in &tables {
            let from = table::format::path(&core.dir, table.record.id);
            core.fs.hard_link(&from, &table::format::path(dir, table.record.id))?;
        }
        for id in state.trees.values().flat_map(|tree| tree.blobs.keys().copied()) {
            let (from, to) = (blob::format::path(&core.dir, id), blob::format::path(dir, id));
            core.fs.hard_link(&from, &to)?;
        }
        // Its sync of the directory makes the links durable before the manifest's name.
        core.fs.sync_dir(dir)?;
        let dropped = core.dropped.load(Ordering::Relaxed);
        trees::write(&*core.fs, dir, &state, dropped, &[])?;
        let blobs = state.trees.values().flat_map(|tree| tree.blobs.values());
        let (blob_bytes, blobs) =
            (blobs.clone().map(|blob| blob.bytes).sum::<u64>(), blobs.count() as u64);
        drop(Manifest::write(core.fs.clone(), dir, state)?);
        sync_name(&*core.fs, dir)?;
        let table_bytes = tables.iter().map(|table| table.record.bytes).sum::<u64>() + blob_bytes;
        Ok(Checkpoint { seqno, files: tables.len() as u64 + blobs + segments, table_bytes })
    }

    /// The moment: ends the segment and links the log.
    fn freeze(&self, dir: &Path) -> Result<Frozen, Error> {
        let core: &Core = &self.core;
        let manifest = core.manifest.lock();
        core.log.sync()?;
        core.log.rotate()?;
        let seqno = core.log.durable();
        let end = core.log.segment();
        let state = manifest.state().clone();
        let mut tables = Vec::new();
        for tree in core.trees.read().values() {
            tables.extend(tree.view().version.tables().cloned());
        }
        for id in state.wal_floor..end {
            core.fs.hard_link(&segment::path(&core.dir, id), &segment::path(dir, id))?;
        }
        // The segment that goes on here begins and ends there, and vouches for the one before.
        let here = SegmentReader::open(&*core.fs, &core.dir, end)?;
        let Head::Sound(header) = here.head() else {
            return Err(Error::corruption(here.path(), 0, "the segment's header is damaged"));
        };
        WalWriter::begin(core.fs.clone(), dir, end, header.previous_len, seqno)
            .map_err(Error::from)?;
        let segments = end - state.wal_floor;
        Ok(Frozen { state, tables, seqno, segments })
    }
}
