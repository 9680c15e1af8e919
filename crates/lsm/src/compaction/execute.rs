//! Doing what was chosen: writing the output tables, and making the exchange one manifest edit.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::choice::Choice;
use super::stream::Stream;
use crate::db::Core;
use crate::error::Error;
use crate::options::TreeConfig;
use crate::read::merge_iter::{Direction, MergeIter, Position, Source};
use crate::table::cursor::{LevelCursor, TableCursor};
use crate::table::reader::Table;
use crate::table::writer::TableWriter;
use crate::tree::{Tree, View};
use crate::version::edit::{Change, TableRecord};

/// Merges or moves the tables of a choice made from the tree's present version. Nobody else
/// compacts the tree meanwhile; flushes go on.
pub(crate) fn compact(core: &Core, tree: &Tree, choice: &Choice) -> Result<(), Error> {
    let version = tree.view().version.clone();
    let is_input = |table: &&Arc<Table>| choice.inputs.contains(&table.record.id);
    let inputs: Vec<Arc<Table>> = version.tables().filter(is_input).cloned().collect();
    if choice.is_move {
        return move_tables(core, tree, &inputs, choice.output);
    }
    let mut sources = Vec::new();
    for (level, tables) in version.levels().iter().enumerate() {
        let chosen = tables.iter().filter(is_input).cloned();
        if level == 0 {
            sources.extend(chosen.map(|table| Source::Table(TableCursor::new(table, false))));
        } else {
            sources.push(Source::Level(LevelCursor::new(chosen.collect(), false)));
        }
    }
    // Taken after the inputs: a later snapshot is newer than everything in them.
    let snapshots = core.shared.snapshots.held();
    let config = tree.config();
    let stream = Stream {
        input: MergeIter::new(sources, Direction::Forward, Position::First)?,
        snapshots: &snapshots,
        config: &config,
        is_bottom: &|key| !version.has_below(choice.output, key),
    };
    let outputs = write_tables(core, &config, stream, core.options.table_bytes, choice.output)?;
    let read: u64 = inputs.iter().map(|table| table.record.bytes).sum();
    let written: u64 = outputs.iter().map(|table| table.record.bytes).sum();
    exchange(core, tree, &inputs, &outputs, choice.output)?;
    let counters = tree.counters();
    counters.compactions.fetch_add(1, Ordering::Relaxed);
    counters.compaction_read.fetch_add(read, Ordering::Relaxed);
    counters.compaction_written.fetch_add(written, Ordering::Relaxed);
    Ok(())
}

/// Writes what the stream keeps into tables of about `table_bytes`, never cutting inside a key,
/// and makes them durable. After an error the files are removed.
pub(crate) fn write_tables(
    core: &Core,
    config: &TreeConfig,
    mut stream: Stream<'_>,
    table_bytes: u64,
    level: usize,
) -> Result<Vec<Arc<Table>>, Error> {
    let mut outputs = Outputs { core, config, level, writer: None, done: Vec::new() };
    let written = outputs.run(&mut stream, table_bytes);
    match written.and_then(|()| outputs.open()) {
        Ok(tables) => Ok(tables),
        Err(cause) => {
            outputs.discard();
            Err(cause)
        }
    }
}

struct Outputs<'a> {
    core: &'a Core,
    config: &'a TreeConfig,
    level: usize,
    writer: Option<TableWriter>,
    done: Vec<TableRecord>,
}

impl Outputs<'_> {
    fn run(&mut self, stream: &mut Stream<'_>, table_bytes: u64) -> Result<(), Error> {
        while let Some((key, kept)) = stream.next_key()? {
            if self.writer.as_ref().is_some_and(|writer| writer.bytes() >= table_bytes) {
                self.finish()?;
            }
            for (tag, value) in kept {
                if self.writer.is_none() {
                    let id = self.core.next_table.fetch_add(1, Ordering::Relaxed);
                    let (fs, dir) = (&*self.core.fs, &self.core.dir);
                    self.writer = Some(TableWriter::create(fs, dir, id, self.config)?);
                }
                if let Some(writer) = &mut self.writer {
                    writer.add(&key, tag, &value)?;
                }
            }
        }
        self.finish()
    }

    fn finish(&mut self) -> Result<(), Error> {
        if let Some(writer) = self.writer.take() {
            let path = writer.path().to_path_buf();
            match writer.finish() {
                Ok(mut record) => {
                    record.level = u8::try_from(self.level).unwrap_or(u8::MAX);
                    self.done.push(record);
                }
                Err(cause) => {
                    self.core.garbage.put(path);
                    return Err(cause);
                }
            }
        }
        Ok(())
    }

    fn open(&self) -> Result<Vec<Arc<Table>>, Error> {
        if !self.done.is_empty() {
            self.core.fs.sync_dir(&self.core.dir)?;
        }
        self.done.iter().map(|record| self.core.open_table(record.clone()).map(Arc::new)).collect()
    }

    fn discard(&mut self) {
        if let Some(writer) = self.writer.take() {
            self.core.garbage.put(writer.path().to_path_buf());
        }
        for record in self.done.drain(..) {
            self.core.garbage.put(crate::table::format::path(&self.core.dir, record.id));
        }
    }
}

/// Puts `outputs` into `level` in place of `inputs`.
fn exchange(
    core: &Core,
    tree: &Tree,
    inputs: &[Arc<Table>],
    outputs: &[Arc<Table>],
    level: usize,
) -> Result<(), Error> {
    let id = tree.id();
    let mut changes: Vec<Change> = inputs
        .iter()
        .map(|table| Change::RemoveTable { tree: id, table: table.record.id })
        .collect();
    let adds = outputs.iter();
    changes.extend(adds.map(|table| Change::AddTable { tree: id, table: table.record.clone() }));
    let mut manifest = core.manifest.lock();
    if tree.is_dropped() {
        outputs.iter().for_each(|table| table.mark_obsolete());
        return Ok(());
    }
    core.commit_edit(&mut manifest, &changes)?;
    let removed: Vec<u64> = inputs.iter().map(|table| table.record.id).collect();
    let added: Vec<_> = outputs.iter().map(|table| (level, table.clone())).collect();
    replace_version(tree, &removed, &added);
    inputs.iter().for_each(|table| table.mark_obsolete());
    Ok(())
}

fn move_tables(core: &Core, tree: &Tree, tables: &[Arc<Table>], level: usize) -> Result<(), Error> {
    let mut manifest = core.manifest.lock();
    if tree.is_dropped() {
        return Ok(());
    }
    let to = u8::try_from(level).unwrap_or(u8::MAX);
    let moved = tables.iter().map(|table| table.record.id);
    let changes: Vec<Change> = moved
        .clone()
        .map(|table| Change::MoveTable { tree: tree.id(), table, level: to })
        .collect();
    core.commit_edit(&mut manifest, &changes)?;
    let added: Vec<_> = tables.iter().map(|table| (level, table.clone())).collect();
    replace_version(tree, &moved.collect::<Vec<_>>(), &added);
    tree.counters().moves.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Under the manifest lock.
pub(crate) fn replace_version(tree: &Tree, removed: &[u64], added: &[(usize, Arc<Table>)]) {
    tree.update(|view| {
        let version = view.version.with(removed, added);
        debug_assert_eq!(version.check(), Ok(()));
        View { version: Arc::new(version), ..view.clone() }
    });
}
