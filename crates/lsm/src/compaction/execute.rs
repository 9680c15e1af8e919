//! Doing what was chosen: writing the output tables, and making the exchange one manifest edit.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::choice::{Action, Choice};
use super::merge::{Merge, compression};
use super::outputs::Outputs;
use super::stream::Stream;
use crate::db::Core;
use crate::error::Error;
use crate::flush::forsake;
use crate::key::{ValueKind, kind_of};
use crate::options::{Compression, TreeConfig};
use crate::table::metadata::Origin;
use crate::table::reader::Table;
use crate::tree::{Tree, View};
use crate::version::blobs::BlobChange;
use crate::version::edit::Change;
use crate::version::manifest::Manifest;

/// Carries out a choice made from a version of the tree. Nobody else has its inputs or puts
/// tables where its output goes; flushes and other compactions go on.
pub(crate) fn compact(core: &Core, tree: &Tree, choice: &Choice) -> Result<(), Error> {
    let version = tree.view().version.clone();
    let is_input = |table: &&Arc<Table>| choice.inputs.contains(&table.record.id);
    let inputs: Vec<Arc<Table>> = version.tables().filter(is_input).cloned().collect();
    match choice.action {
        Action::Merge => {}
        // Not for nothing: it becomes the bottom, which is compressed in another way.
        Action::Move
            if compression(&tree.config(), &version, choice) != tree.config().compression => {}
        Action::Move => return move_tables(core, tree, &inputs, choice.output),
        Action::Drop => {
            tree.counters().drops.fetch_add(inputs.len() as u64, Ordering::Relaxed);
            return exchange(core, tree, &inputs, &[], choice.output);
        }
    }
    let merge = Arc::new(Merge::new(core, tree, version.clone(), choice, &inputs));
    let outputs = core.merge(&merge)?;
    let read: u64 = inputs.iter().map(|table| table.record.bytes).sum();
    let written = written_bytes(&outputs);
    exchange(core, tree, &inputs, &outputs, choice.output)?;
    let there = version.level(choice.output).iter().filter(is_input);
    let entered = read - there.map(|table| table.record.bytes).sum::<u64>();
    tree.counters().compacted(choice.output, entered, read, written);
    Ok(())
}

/// Bytes of tables that were just written, and of the blob files that were written with them.
pub(crate) fn written_bytes(outputs: &[Arc<Table>]) -> u64 {
    let mut blobs: Vec<(u64, u64)> = outputs
        .iter()
        .flat_map(|table| table.blobs())
        .filter(|file| file.is_new())
        .map(|file| (file.record.id, file.record.bytes))
        .collect();
    blobs.sort_unstable();
    blobs.dedup();
    let tables = outputs.iter().map(|table| table.record.bytes);
    tables.chain(blobs.into_iter().map(|(_, bytes)| bytes)).sum()
}

/// What the tables to write are like.
#[derive(Clone)]
pub(crate) struct Target {
    /// Without id and expiries.
    pub(crate) origin: Origin,
    pub(crate) compression: Compression,
    /// Bytes from which the next one begins.
    pub(crate) table_bytes: u64,
    /// Whether writing waits for the rate limit.
    pub(crate) hold: bool,
}

/// Writes what the stream keeps into tables, never cutting inside a key, and makes them durable.
/// After an error the files are removed.
pub(crate) fn write_tables(
    core: &Core,
    config: &TreeConfig,
    mut stream: Stream<'_>,
    target: Target,
) -> Result<Vec<Arc<Table>>, Error> {
    let Target { origin, compression, table_bytes, hold } = target;
    let outputs = Outputs::new(core, config, compression, origin, stream.version);
    let mut writing = Writing { core, config, table_bytes, hold, outputs, paced: 0 };
    let written = writing.run(&mut stream).and_then(|()| writing.outputs.open());
    written.inspect_err(|_cause| writing.outputs.discard())
}

/// Bytes after which the rate is looked at.
const PACE_BYTES: u64 = 256 << 10;

struct Writing<'a> {
    core: &'a Core,
    config: &'a TreeConfig,
    table_bytes: u64,
    hold: bool,
    outputs: Outputs<'a>,
    /// Bytes that the rate limit knows of.
    paced: u64,
}

impl Writing<'_> {
    fn run(&mut self, stream: &mut Stream<'_>) -> Result<(), Error> {
        let filter = self.config.compaction_filter.as_deref();
        while let Some((key, kept)) = stream.next_key()? {
            self.pace(PACE_BYTES);
            if self.outputs.open_bytes().is_some_and(|bytes| bytes >= self.table_bytes) {
                self.finish()?;
            }
            for (tag, stored) in kept {
                let expiry = match filter {
                    Some(filter) if kind_of(tag) == ValueKind::Put => {
                        filter.expiry_of(&key, &stream.value(&key, tag, &stored)?)
                    }
                    _ => None,
                };
                self.outputs.add(&key, tag, &stored)?;
                if let Some(at) = expiry {
                    self.outputs.writer()?.expires(at);
                }
            }
        }
        self.finish()
    }

    /// Tells the rate limit what was written, if that is at least so much.
    fn pace(&mut self, least: u64) {
        let written = self.outputs.bytes();
        if written.saturating_sub(self.paced) >= least {
            self.core.limiter.wrote(written - self.paced, self.hold, || self.core.load());
            self.paced = written;
        }
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.pace(1);
        self.outputs.finish()
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
        outputs.iter().for_each(|table| table.forsake());
        return Ok(());
    }
    let removed: Vec<u64> = inputs.iter().map(|table| table.record.id).collect();
    let added: Vec<_> = outputs.iter().map(|table| (level, table.clone())).collect();
    replace_version(core, tree, &mut manifest, changes, &removed, &added)
        .inspect_err(|cause| forsake(outputs, cause))?;
    if outputs.is_empty() {
        // No table says that these are replaced: they stay until that is written down.
        removed.iter().for_each(|table| core.garbage.obsolete(*table));
        core.note(&manifest)?;
    }
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
    let added: Vec<_> = tables.iter().map(|table| (level, table.clone())).collect();
    let moved: Vec<u64> = moved.collect();
    replace_version(core, tree, &mut manifest, changes, &moved, &added)?;
    tree.counters().moved(level, tables.iter().map(|table| table.record.bytes).sum());
    Ok(())
}

/// Makes `changes` durable, with what they mean for blob files, and shows readers the outcome.
pub(crate) fn replace_version(
    core: &Core,
    tree: &Tree,
    manifest: &mut Manifest,
    changes: Vec<Change>,
    removed: &[u64],
    added: &[(usize, Arc<Table>)],
) -> Result<(), Error> {
    // Nobody else changes it: that takes the manifest.
    let before = tree.view().version.clone();
    let after = Arc::new(before.with(removed, added));
    debug_assert_eq!(after.check(), Ok(()));
    let blobs = BlobChange::between(&before, &after);
    core.commit_edit(manifest, &blobs.around(tree.id(), changes))?;
    tree.update(|view| View { version: after.clone(), ..view.clone() });
    blobs.done();
    Ok(())
}
