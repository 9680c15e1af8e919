//! A sealed memtable becomes a level-0 table; then the log lets go of what it no longer needs.
//!
//! INVARIANT: a tree's memtables are flushed oldest first, one at a time; before a table is in the
//! manifest, the log is durable up to the memtable's seal. Otherwise a power cut could leave a
//! tree's newer writes in a table and lose another tree's older ones with the log: not a prefix.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::compaction::execute::{Target, write_tables, written_bytes};
use crate::compaction::stream::{Filter, Stream};
use crate::db::Core;
use crate::error::Error;
use crate::memtable::{MemCursor, Memtable};
use crate::read::merge_iter::{Direction, MergeIter, Position, Source};
use crate::table::metadata::Origin;
use crate::table::reader::Table;
use crate::tree::{Tree, View};
use crate::version::blobs::BlobChange;
use crate::version::edit::{Change, TableTimes};
use crate::wal::segment;

/// Flushes the oldest sealed memtable of `tree`, if there is one. Nobody else flushes the tree
/// meanwhile.
pub(crate) fn flush(core: &Core, tree: &Tree) -> Result<(), Error> {
    let view = tree.view().clone();
    let Some(memtable) = view.sealed.last() else { return Ok(()) };
    let sealed_at = memtable.sealed_at();
    // Writers that took it before it was sealed may still be inserting.
    core.shared.visible.wait(sealed_at, &|| core.log.check())?;
    core.log.sync_to(sealed_at)?;
    let source = Source::Memtable(MemCursor::new(memtable.clone()));
    // In this order, as for a compaction.
    let visible = core.shared.visible();
    let snapshots = core.shared.snapshots.held();
    let config = tree.config();
    let nothing_below = view.version.is_empty();
    let read = |key: &[u8]| tree.get_as_of(key, visible);
    let now_ms = core.now_ms();
    let stream = Stream {
        input: MergeIter::new(vec![source], Direction::Forward, Position::First)?,
        end: None,
        snapshots: &snapshots,
        config: &config,
        version: &view.version,
        is_bottom: &|_key| nothing_below,
        filter: Filter::begin(&config, now_ms, &read),
        seen: None,
    };
    let times = TableTimes { written: now_ms, made: now_ms, ..TableTimes::default() };
    let origin = Origin { times, flushed: sealed_at, ..core.origin(tree) };
    let compression = config.compression;
    let target = Target { origin, compression, table_bytes: u64::MAX, hold: false };
    let outputs = write_tables(core, &config, stream, target)?;
    let written = written_bytes(&outputs);
    install(core, tree, memtable, &outputs)?;
    tree.counters().flushed(written);
    trim_log(core)
}

fn install(
    core: &Core,
    tree: &Tree,
    memtable: &Arc<Memtable>,
    outputs: &[Arc<Table>],
) -> Result<(), Error> {
    let id = tree.id();
    let mut manifest = core.manifest.lock();
    if tree.is_dropped() {
        outputs.iter().for_each(|table| table.forsake());
        return Ok(());
    }
    let adds = outputs.iter();
    let mut changes: Vec<Change> =
        adds.map(|table| Change::AddTable { tree: id, table: table.record.clone() }).collect();
    changes.push(Change::Flushed { tree: id, seqno: memtable.sealed_at() });
    let added: Vec<_> = outputs.iter().map(|table| (0, table.clone())).collect();
    let before = tree.view().version.clone();
    let after = Arc::new(before.with(&[], &added));
    debug_assert_eq!(after.check(), Ok(()));
    let blobs = BlobChange::between(&before, &after);
    let changes = blobs.around(id, changes);
    core.commit_edit(&mut manifest, &changes).inspect_err(|cause| forsake(outputs, cause))?;
    tree.update(|view| {
        let mut sealed = view.sealed.clone();
        sealed.retain(|kept| !Arc::ptr_eq(kept, memtable));
        View { sealed, version: after.clone(), ..view.clone() }
    });
    blobs.done();
    core.sealed.fetch_sub(1, Ordering::AcqRel);
    if outputs.is_empty() {
        // No table says how far the flush came. Noted before the log lets go.
        core.unnoted.store(true, Ordering::Relaxed);
    }
    core.note_if_asked(&manifest)
}

/// Lets go of tables that an edit did not take for want of room. After any other error the
/// manifest may have them.
pub(crate) fn forsake(tables: &[Arc<Table>], cause: &Error) {
    if matches!(cause, Error::Full { .. }) {
        tables.iter().for_each(|table| table.forsake());
    }
}

/// Removes the segments in which nothing is left that only the log has.
pub(crate) fn trim_log(core: &Core) -> Result<(), Error> {
    // Read first: whatever is written to a memtable from now on is in this segment or a later one.
    let mut floor = core.log.segment();
    let last = core.log.durable();
    for tree in core.trees.read().values() {
        let view = tree.view();
        for memtable in view.sealed.iter().chain([&view.active]) {
            floor = floor.min(memtable.wal_floor());
        }
    }
    let mut manifest = core.manifest.lock();
    let known = manifest.state().wal_floor;
    if floor <= known {
        return Ok(());
    }
    core.commit_edit(&mut manifest, &[Change::WalFloor { segment: floor, last }])?;
    drop(manifest);
    for id in known..floor {
        core.garbage.put(segment::path(&core.dir, id));
    }
    Ok(())
}
