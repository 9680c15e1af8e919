//! Tables that are being written: the open one, and those that are done and in no manifest yet.
//!
//! INVARIANT: every file is either handed out by [`Outputs::open`] or put to the garbage by
//! [`Outputs::discard`]; whoever drops one without either leaves files to the next opening.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::db::Core;
use crate::error::Error;
use crate::options::TreeConfig;
use crate::table::format::path;
use crate::table::metadata::Origin;
use crate::table::reader::Table;
use crate::table::writer::TableWriter;
use crate::version::edit::TableRecord;

pub(crate) struct Outputs<'a> {
    core: &'a Core,
    config: &'a TreeConfig,
    /// Of every table, but for its id.
    origin: Origin,
    writer: Option<TableWriter>,
    done: Vec<TableRecord>,
}

impl<'a> Outputs<'a> {
    pub(crate) const fn new(core: &'a Core, config: &'a TreeConfig, origin: Origin) -> Self {
        Self { core, config, origin, writer: None, done: Vec::new() }
    }

    /// Bytes of the open table so far, if one is open.
    pub(crate) fn open_bytes(&self) -> Option<u64> {
        self.writer.as_ref().map(TableWriter::bytes)
    }

    /// The open table; a new one if none is open.
    pub(crate) fn writer(&mut self) -> Result<&mut TableWriter, Error> {
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => {
                let id = self.core.next_table.fetch_add(1, Ordering::Relaxed);
                let origin = Origin { table: id, ..self.origin.clone() };
                TableWriter::create(&*self.core.fs, &self.core.dir, self.config, origin)?
            }
        };
        Ok(self.writer.insert(writer))
    }

    /// Ends the open table, if one is open.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let path = writer.path().to_path_buf();
        let record = writer.finish().inspect_err(|_cause| self.core.garbage.put(path))?;
        self.done.push(record);
        Ok(())
    }

    /// Makes the names of all that are done durable, and opens them.
    pub(crate) fn open(&self) -> Result<Vec<Arc<Table>>, Error> {
        if !self.done.is_empty() {
            self.core.fs.sync_dir(&self.core.dir)?;
        }
        self.done.iter().map(|record| self.core.open_table(record.clone()).map(Arc::new)).collect()
    }

    /// Has all the files removed.
    pub(crate) fn discard(&mut self) {
        if let Some(writer) = self.writer.take() {
            self.core.garbage.put(writer.path().to_path_buf());
        }
        for record in self.done.drain(..) {
            self.core.garbage.put(path(&self.core.dir, record.id));
        }
    }
}
