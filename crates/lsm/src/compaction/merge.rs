//! A merge of tables, alone or in parts: ranges of keys that several threads write at once. All
//! parts see the same snapshots and moment, and become visible together.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::choice::Choice;
use super::execute::{Target, write_tables};
use super::stream::{Filter, Stream};
use crate::db::Core;
use crate::error::Error;
use crate::key::Seqno;
use crate::options::{Compression, TreeConfig};
use crate::read::merge_iter::{Direction, MergeIter, Position, Source};
use crate::table::cursor::{Disjoint, LevelCursor, TableCursor};
use crate::table::metadata::Origin;
use crate::table::reader::Table;
use crate::tree::Tree;
use crate::version::edit::TableTimes;
use crate::version::levels::Version;

/// Keys looked at to find where to part: enough for parts of about one size.
const SAMPLES: usize = 1024;

pub(crate) struct Merge {
    tree: Tree,
    version: Arc<Version>,
    choice: Choice,
    config: Arc<TreeConfig>,
    /// Ascending.
    snapshots: Vec<Seqno>,
    /// A moment that every snapshot not in the list has behind it.
    visible: Seqno,
    now_ms: u64,
    /// Of the inputs.
    oldest: Seqno,
    target: Target,
    /// First keys of all parts but the first, ascending.
    bounds: Vec<Bytes>,
    parts: Mutex<Parts>,
    ended: Condvar,
}

#[derive(Default)]
struct Parts {
    /// The next one that nobody has taken.
    next: usize,
    ended: usize,
    outputs: Vec<Vec<Arc<Table>>>,
    failure: Option<Error>,
}

impl Merge {
    pub(crate) fn new(
        core: &Core,
        tree: &Tree,
        version: Arc<Version>,
        choice: &Choice,
        inputs: &[Arc<Table>],
    ) -> Self {
        // In this order: a snapshot that is not in the list is not older than `visible`, and newer
        // than everything in the inputs.
        let visible = core.shared.visible();
        let snapshots = core.shared.snapshots.held();
        let now_ms = core.now_ms();
        let written = inputs.iter().map(|table| table.record.times.written).max().unwrap_or(0);
        // A run of level 0 is one table.
        let whole = choice.output == 0;
        let table_bytes = if whole { u64::MAX } else { core.options.table_bytes };
        let bytes: u64 = inputs.iter().map(|table| table.record.bytes).sum();
        let tables = usize::try_from(bytes / table_bytes).unwrap_or(usize::MAX);
        let bounds = bounds(inputs, tables.min(core.options.subcompactions));
        let config = tree.config();
        let compression = compression(&config, &version, choice);
        let outputs = vec![Vec::new(); bounds.len() + 1];
        let origin = Origin {
            level: u8::try_from(choice.output).unwrap_or(u8::MAX),
            times: TableTimes { written, made: now_ms, ..TableTimes::default() },
            inputs: choice.inputs.clone(),
            ..core.origin(tree)
        };
        Self {
            tree: tree.clone(),
            version,
            choice: choice.clone(),
            config: config.clone(),
            snapshots,
            visible,
            now_ms,
            oldest: inputs.iter().map(|table| table.record.min_seqno).min().unwrap_or(0),
            target: Target { origin, compression, table_bytes, hold: true },
            bounds,
            parts: Mutex::new(Parts { outputs, ..Parts::default() }),
            ended: Condvar::new(),
        }
    }

    pub(crate) fn is_parted(&self) -> bool {
        !self.bounds.is_empty()
    }

    /// A part that nobody has taken, for the caller to run.
    pub(crate) fn take(&self) -> Option<usize> {
        let mut parts = self.parts.lock();
        if parts.failure.is_some() || parts.next > self.bounds.len() {
            return None;
        }
        parts.next += 1;
        Some(parts.next - 1)
    }

    /// Writes a part that was taken. How it went is told by [`Merge::finish`].
    pub(crate) fn run(&self, core: &Core, part: usize) {
        let mut ending = Ending { merge: self, part, outcome: None };
        ending.outcome = Some(self.write(core, part));
    }

    /// Runs what nobody has taken, waits for the rest; the tables of all parts in order.
    pub(crate) fn finish(&self, core: &Core) -> Result<Vec<Arc<Table>>, Error> {
        while let Some(part) = self.take() {
            self.run(core, part);
        }
        let mut parts = self.parts.lock();
        while parts.ended < parts.next {
            self.ended.wait(&mut parts);
        }
        let outputs: Vec<Arc<Table>> =
            std::mem::take(&mut parts.outputs).into_iter().flatten().collect();
        match parts.failure.take() {
            None => Ok(outputs),
            Some(cause) => {
                outputs.iter().for_each(|table| table.forsake());
                Err(cause)
            }
        }
    }

    fn write(&self, core: &Core, part: usize) -> Result<Vec<Arc<Table>>, Error> {
        let start = match part.checked_sub(1).and_then(|before| self.bounds.get(before)) {
            Some(bound) => Position::AtOrBehind(bound, u64::MAX),
            None => Position::First,
        };
        let read = |key: &[u8]| self.tree.get_as_of(key, self.visible);
        let is_bottom = |key: &[u8]| !self.version.has_older(self.choice.output, self.oldest, key);
        let stream = Stream {
            input: MergeIter::new(self.sources(), Direction::Forward, start)?,
            end: self.bounds.get(part).map(|bound| &**bound),
            snapshots: &self.snapshots,
            config: &self.config,
            version: &self.version,
            is_bottom: &is_bottom,
            filter: Filter::begin(&self.config, self.now_ms, &read),
            seen: None,
        };
        write_tables(core, &self.config, stream, self.target.clone())
    }

    fn sources(&self) -> Vec<Source> {
        let is_input = |table: &&Arc<Table>| self.choice.inputs.contains(&table.record.id);
        let mut sources = Vec::new();
        for (level, tables) in self.version.levels().iter().enumerate() {
            let chosen = tables.iter().filter(is_input).cloned();
            if level == 0 {
                sources.extend(chosen.map(|table| Source::Table(TableCursor::new(table, false))));
            } else {
                let chosen = Disjoint::Chosen(chosen.collect());
                sources.push(Source::Level(LevelCursor::new(chosen, false)));
            }
        }
        sources
    }
}

/// What the outputs of a choice are compressed with.
pub(crate) fn compression(config: &TreeConfig, version: &Version, choice: &Choice) -> Compression {
    let nothing_deeper =
        version.levels().iter().skip(choice.output + 1).all(|tables| tables.is_empty());
    // A run of level 0 has all older ones beneath it.
    let oldest =
        version.level(0).last().is_none_or(|table| choice.inputs.contains(&table.record.id));
    match config.bottom_compression {
        Some(bottom) if nothing_deeper && (choice.output > 0 || oldest) => bottom,
        _ => config.compression,
    }
}

/// Keys that cut the inputs into at most `parts` of about as many blocks each.
fn bounds(inputs: &[Arc<Table>], parts: usize) -> Vec<Bytes> {
    let blocks: usize = inputs.iter().map(|table| table.blocks()).sum();
    if parts < 2 || blocks < 2 * parts {
        return Vec::new();
    }
    let stride = blocks.div_ceil(SAMPLES);
    let mut samples: Vec<&[u8]> = Vec::new();
    for table in inputs {
        // A key for every `stride` blocks, or as many times the same one.
        let mut behind = stride - 1;
        for (key, blocks) in table.cuts() {
            behind += blocks;
            samples.extend(std::iter::repeat_n(key, behind / stride));
            behind %= stride;
        }
    }
    samples.sort_unstable();
    let mut bounds: Vec<Bytes> = (1..parts)
        .filter_map(|part| samples.get(part * samples.len() / parts))
        .map(|key| Bytes::copy_from_slice(key))
        .collect();
    bounds.dedup();
    bounds
}

/// Notes how a part ended, however it did.
struct Ending<'a> {
    merge: &'a Merge,
    part: usize,
    /// None: it panicked.
    outcome: Option<Result<Vec<Arc<Table>>, Error>>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut parts = self.merge.parts.lock();
        parts.ended += 1;
        match self.outcome.take() {
            Some(Ok(tables)) => parts.outputs[self.part] = tables,
            Some(Err(cause)) => parts.failure = Some(cause),
            None => {
                let cause = "a part of a compaction panicked".to_owned();
                parts.failure = Some(Error::Stalled { cause });
            }
        }
        self.merge.ended.notify_all();
    }
}
