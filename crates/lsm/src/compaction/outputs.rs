//! Files that are being written: the open table and the open blob file, and those that are done and
//! in no manifest yet. Decides which values lie apart from their keys.
//!
//! INVARIANT: every file is either handed out by [`Outputs::open`] or put to the garbage by
//! [`Outputs::discard`]; whoever drops one without either leaves files to the next opening. What a
//! table refers to is durable before the table is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::blob;
use crate::blob::format::{BlobRecord, Reference};
use crate::blob::reader::BlobFile;
use crate::blob::writer::BlobWriter;
use crate::db::Core;
use crate::error::Error;
use crate::key::{ValueKind, is_apart, kind_of, pack, pack_apart, seqno_of};
use crate::options::{BLOB_FILE_TABLES, Compression, TreeConfig};
use crate::table::filter_bits::Runs;
use crate::table::format::path;
use crate::table::metadata::Origin;
use crate::table::reader::Table;
use crate::table::writer::TableWriter;
use crate::version::edit::TableRecord;
use crate::version::levels::Version;

pub(crate) struct Outputs<'a> {
    core: &'a Core,
    config: &'a TreeConfig,
    compression: Compression,
    /// Of every table, but for its id.
    origin: Origin,
    /// What the references that are handed on refer to.
    version: &'a Version,
    /// Blob files whose values are written anew.
    collect: BTreeSet<u64>,
    /// What decides about the tables' filters.
    runs: Option<Runs>,
    writer: Option<TableWriter>,
    done: Vec<TableRecord>,
    blob: Option<BlobWriter>,
    done_blobs: Vec<BlobRecord>,
    /// Bytes of what is done.
    done_bytes: u64,
}

impl<'a> Outputs<'a> {
    /// `version`: one that holds the inputs.
    pub(crate) fn new(
        core: &'a Core,
        config: &'a TreeConfig,
        compression: Compression,
        origin: Origin,
        version: &'a Version,
    ) -> Self {
        let level = usize::from(origin.level);
        let runs = config.bloom_by_run.then(|| version.runs_with(level, &origin.inputs));
        let collect = version.blobs_to_collect(config.blobs.unwrap_or_default());
        Self {
            core,
            config,
            compression,
            origin,
            version,
            collect,
            runs,
            writer: None,
            done: Vec::new(),
            blob: None,
            done_blobs: Vec::new(),
            done_bytes: 0,
        }
    }

    /// Bytes of the open table so far, if one is open.
    pub(crate) fn open_bytes(&self) -> Option<u64> {
        self.writer.as_ref().map(TableWriter::bytes)
    }

    /// Bytes written so far, to tables and blob files.
    pub(crate) fn bytes(&self) -> u64 {
        let blob = self.blob.as_ref().map_or(0, BlobWriter::bytes);
        self.done_bytes + blob + self.open_bytes().unwrap_or(0)
    }

    /// The open table; a new one if none is open.
    pub(crate) fn writer(&mut self) -> Result<&mut TableWriter, Error> {
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => {
                let table = self.core.next_table.fetch_add(1, Ordering::Relaxed);
                let origin = Origin { table, ..self.origin.clone() };
                let (fs, dir) = (&*self.core.fs, &self.core.dir);
                let made = TableWriter::create(fs, dir, self.config, self.compression, origin)?;
                made.with_runs(self.runs.clone())
            }
        };
        Ok(self.writer.insert(writer))
    }

    /// Adds the next version in order: a value, or a reference to one, as `tag` says.
    pub(crate) fn add(&mut self, key: &[u8], tag: u64, stored: &[u8]) -> Result<(), Error> {
        if !is_apart(tag) {
            return self.put(key, tag, stored);
        }
        let file = Reference::decode(stored).map_or(0, |at| at.file);
        if !self.collect.contains(&file) {
            return self.writer()?.add(key, tag, stored);
        }
        let value = self.version.apart_once(key, stored)?;
        self.put(key, pack(seqno_of(tag), ValueKind::Put), &value)
    }

    fn put(&mut self, key: &[u8], tag: u64, value: &[u8]) -> Result<(), Error> {
        let is_large = self.config.blobs.is_some_and(|blobs| value.len() >= blobs.threshold);
        if kind_of(tag) != ValueKind::Put || !is_large {
            return self.writer()?.add(key, tag, value);
        }
        let reference = self.blob()?.add(key, value)?.encode();
        self.writer()?.add(key, pack_apart(seqno_of(tag)), &reference)
    }

    /// The open blob file; a new one if none is open, or it is full.
    fn blob(&mut self) -> Result<&mut BlobWriter, Error> {
        let most = self.core.options.table_bytes.saturating_mul(BLOB_FILE_TABLES);
        if self.blob.as_ref().is_some_and(|blob| blob.bytes() >= most) {
            self.finish_blob()?;
        }
        let blob = match self.blob.take() {
            Some(blob) => blob,
            None => {
                let id = self.core.next_table.fetch_add(1, Ordering::Relaxed);
                BlobWriter::create(&*self.core.fs, &self.core.dir, id, self.config.compression)?
            }
        };
        Ok(self.blob.insert(blob))
    }

    fn finish_blob(&mut self) -> Result<(), Error> {
        let Some(blob) = self.blob.take() else { return Ok(()) };
        let path = blob.path().to_path_buf();
        let record = blob.finish().inspect_err(|_cause| self.core.garbage.put(path))?;
        self.done_bytes += record.bytes;
        self.done_blobs.push(record);
        Ok(())
    }

    /// Ends the open table, if one is open.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        if let (Some(_), Some(blob)) = (&self.writer, &mut self.blob) {
            blob.sync()?;
        }
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let path = writer.path().to_path_buf();
        let record = writer.finish().inspect_err(|_cause| self.core.garbage.put(path))?;
        self.done_bytes += record.bytes;
        self.done.push(record);
        Ok(())
    }

    /// Makes the names of all that are done durable, and opens them.
    pub(crate) fn open(&mut self) -> Result<Vec<Arc<Table>>, Error> {
        self.finish_blob()?;
        if self.done.is_empty() {
            return Ok(Vec::new());
        }
        self.core.fs.sync_dir(&self.core.dir)?;
        let known = self.version.blobs().iter().map(|(id, used)| (*id, used.file.clone()));
        let mut files: BTreeMap<u64, Arc<BlobFile>> = known.collect();
        for record in &self.done_blobs {
            files.insert(record.id, Arc::new(self.core.open_blob(*record)?));
        }
        let open = |record: &TableRecord| {
            self.core.open_table(record.clone())?.with_blobs(&files).map(Arc::new)
        };
        self.done.iter().map(open).collect()
    }

    /// Has all the files removed.
    pub(crate) fn discard(&mut self) {
        let dir = &self.core.dir;
        let mut files: Vec<PathBuf> = Vec::new();
        files.extend(self.writer.take().map(|writer| writer.path().to_path_buf()));
        files.extend(self.blob.take().map(|blob| blob.path().to_path_buf()));
        files.extend(self.done.drain(..).map(|record| path(dir, record.id)));
        let blobs = self.done_blobs.drain(..);
        files.extend(blobs.map(|record| blob::format::path(dir, record.id)));
        files.into_iter().for_each(|file| self.core.garbage.put(file));
    }
}
