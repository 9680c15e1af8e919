//! Bulk ingest: sorted data goes straight into tables, past log and memtable.
//!
//! Each table gets a seqno of its own, numbered by a batch of nothing in the log, and the tree's
//! memtable is sealed at that number: so no table that a flush writes reaches from before it to
//! behind it. The tables go as deep as nothing older lies above or beside them, all with one edit.
//!
//! INVARIANT: nobody compacts the tree from the first number on, and nobody flushes it while the
//! tables are put in place; a flush decides what tombstones it may drop by what lies beneath.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::batch::WriteBatch;
use crate::compaction::execute::{replace_version, written_bytes};
use crate::compaction::outputs::Outputs;
use crate::db::{Core, Db};
use crate::error::Error;
use crate::flush::forsake;
use crate::key::{Seqno, ValueKind, pack};
use crate::options::{Compaction, LEVELS, MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::table::metadata::Origin;
use crate::table::reader::Table;
use crate::tree::Tree;
use crate::version::edit::{Change, TableRecord};
use crate::version::levels::Version;

/// What an ingest brought in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ingested {
    /// Keys.
    pub entries: u64,
    /// Tables that were written.
    pub tables: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Db {
    /// Puts keys and values, ascending and each key once, into a tree by writing tables: no log, no
    /// memtable, no compaction of what fits nowhere above. They become visible and durable all at
    /// once when it returns, each as if put while it ran: newer than what was there before the
    /// call, older than what is written after it. A snapshot taken while it runs may see them.
    ///
    /// The tree is not compacted meanwhile. `sorted` must not write to this database.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the keys do not ascend or are too large. Nothing was
    /// ingested then, nor after any other error but [`Error::Poisoned`].
    pub fn ingest<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        tree: &Tree,
        sorted: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Ingested, Error> {
        let core: &Core = &self.core;
        if !tree.belongs_to(&core.shared) {
            return Err(Error::invalid(format!("{} is of another database", tree.name())));
        }
        core.exclusively(tree, false, || {
            let config = tree.config();
            let origin = Origin { ingested: true, ..core.origin(tree) };
            let version = tree.view().version.clone();
            // With nothing beneath, it becomes the bottom.
            let bottom = config.bottom_compression.filter(|_| version.tables().next().is_none());
            let compression = bottom.unwrap_or(config.compression);
            let mut outputs = Outputs::new(core, &config, compression, origin, &version);
            let written = write(core, tree, &mut outputs, sorted).and_then(|()| outputs.open());
            let outcome = written.and_then(|tables| install(core, tree, &tables));
            outcome.inspect_err(|cause| {
                // After a failed edit the manifest may have them; the next opening knows.
                if !matches!(cause, Error::Poisoned { .. }) {
                    outputs.discard();
                }
            })
        })
    }
}

/// Writes rows into tables, each with a seqno of its own.
fn write<K: AsRef<[u8]>, V: AsRef<[u8]>>(
    core: &Core,
    tree: &Tree,
    outputs: &mut Outputs<'_>,
    sorted: impl IntoIterator<Item = (K, V)>,
) -> Result<(), Error> {
    let mut last: Option<Vec<u8>> = None;
    let mut seqno = 0;
    for (key, value) in sorted {
        let (key, value) = (key.as_ref(), value.as_ref());
        if last.as_deref().is_some_and(|last| last >= key) {
            return Err(Error::invalid(format!("key {key:02x?} does not ascend")));
        }
        if key.len() > MAX_KEY_BYTES || value.len() > MAX_VALUE_BYTES {
            return Err(Error::invalid(format!("key {key:02x?} or its value is too long")));
        }
        if outputs.open_bytes().is_some_and(|bytes| bytes >= core.options.table_bytes) {
            outputs.finish()?;
        }
        if outputs.open_bytes().is_none() {
            seqno = core.number_nothing(tree)?;
        }
        outputs.add(key, pack(seqno, ValueKind::Put), value)?;
        let kept = last.get_or_insert_default();
        kept.clear();
        kept.extend_from_slice(key);
    }
    outputs.finish()?;
    Ok(())
}

fn install(core: &Core, tree: &Tree, tables: &[Arc<Table>]) -> Result<Ingested, Error> {
    let Some(last) = tables.last() else { return Ok(Ingested::default()) };
    // What is older than the tables must not be in memory above them, and their numbers must be
    // durable before the manifest knows them.
    core.flush_all()?;
    core.log.sync_to(last.record.max_seqno)?;
    core.exclusively(tree, true, || place(core, tree, tables))?;
    let records = tables.iter().map(|table| &table.record);
    Ok(Ingested {
        entries: records.clone().map(|record| record.entries).sum(),
        tables: tables.len() as u64,
        bytes: records.map(|record| record.bytes).sum(),
    })
}

fn place(core: &Core, tree: &Tree, tables: &[Arc<Table>]) -> Result<(), Error> {
    let leveled = matches!(tree.config().compaction, Compaction::Leveled { .. });
    let mut manifest = core.manifest.lock();
    if tree.is_dropped() {
        return Err(Error::TreeDropped { tree: tree.name().to_owned() });
    }
    let version = tree.view().version.clone();
    let mut changes = Vec::new();
    let mut added = Vec::new();
    for table in tables {
        let level = if leveled { fitting_level(&version, &table.record) } else { 0 };
        let mut record = table.record.clone();
        record.level = u8::try_from(level).unwrap_or(u8::MAX);
        changes.push(Change::AddTable { tree: tree.id(), table: record });
        added.push((level, table.clone()));
    }
    // No table can say that all of them are there. Before the edit: whoever fails behind it cannot
    // take the tables back.
    let records: Vec<_> = tables.iter().map(|table| table.record.clone()).collect();
    core.note_ahead(&manifest, tree.id(), &records)?;
    let in_tables: u64 = records.iter().map(|record| record.bytes).sum();
    let apart = written_bytes(tables) - in_tables;
    replace_version(core, tree, &mut manifest, changes, &[], &added)
        .inspect_err(|cause| forsake(tables, cause))?;
    core.unnoted.store(false, Ordering::Relaxed);
    let counters = tree.counters();
    added.iter().for_each(|(level, table)| counters.ingested(*level, table.record.bytes));
    counters.ingested(added.first().map_or(0, |(level, _)| *level), apart);
    drop(manifest);
    core.jobs.notify();
    Ok(())
}

/// The deepest level with nothing older of the table's range above it and nothing of it beside.
fn fitting_level(version: &Version, table: &TableRecord) -> usize {
    let overlaps = |other: &&Arc<Table>| {
        other.record.smallest <= table.largest && table.smallest <= other.record.largest
    };
    let older_above = version
        .level(0)
        .iter()
        .filter(overlaps)
        .any(|other| other.record.min_seqno < table.min_seqno);
    if older_above {
        return 0;
    }
    let free = |level: &usize| !version.level(*level).iter().any(|other| overlaps(&other));
    (1..LEVELS).take_while(free).last().unwrap_or(0)
}

impl Core {
    /// Numbers nothing: seals the tree's memtable, and returns a seqno that no write has, above
    /// all in the sealed memtable and below all in the next one. Durable with the log's next sync.
    fn number_nothing(&self, tree: &Tree) -> Result<Seqno, Error> {
        let nothing = WriteBatch::nothing();
        let queue = self.log.queue()?;
        if tree.is_dropped() {
            return Err(Error::TreeDropped { tree: tree.name().to_owned() });
        }
        if !tree.view().active.is_unused() {
            self.seal(tree, queue.last());
        }
        Ok(self.push_empty(queue, &nothing)?.seqno())
    }
}
