//! A tree: a name, its settings, and the view of what it holds right now.

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;

use crate::commit::visible::Visible;
use crate::error::Error;
use crate::key::{Seqno, ValueKind};
use crate::memtable::{MemCursor, Memtable, Supply};
use crate::options::{LEVELS, MAX_OPERAND_CHAIN, TreeConfig};
use crate::read::get::Lookup;
use crate::read::merge_iter::{Direction, Source};
use crate::read::range::{KeyRange, Reach, Scan};
use crate::read::snapshot::{Snapshot, SnapshotList};
use crate::stats::Counters;
use crate::table::cursor::{Disjoint, LevelCursor, TableCursor};
use crate::table::filter;
use crate::table::reader::Table;
use crate::version::levels::Version;

/// What all trees of a database share with their readers.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) visible: Visible,
    pub(crate) snapshots: SnapshotList,
    /// Bytes of all memtables.
    pub(crate) supply: Arc<Supply>,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self {
            visible: Visible::default(),
            snapshots: SnapshotList::default(),
            supply: Arc::default(),
        }
    }

    pub(crate) fn visible(&self) -> Seqno {
        self.visible.get()
    }
}

/// Everything a tree holds: one consistent, immutable list of sources (the active memtable is
/// still written to, but an entry newer than the reader's seqno is not seen).
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) active: Arc<Memtable>,
    /// Newest first.
    pub(crate) sealed: Vec<Arc<Memtable>>,
    pub(crate) version: Arc<Version>,
}

impl View {
    /// The sources that may hold something in a range visible at `at`, newest first. The range is
    /// given in the direction of the scan.
    pub(crate) fn sources(
        &self,
        start: &Bound<Bytes>,
        end: &Bound<Bytes>,
        direction: Direction,
        at: Seqno,
    ) -> Vec<Source> {
        // Sources are large; room for none that is not there keeps the allocator on its fast way.
        let young = self.version.level(0).len();
        let rest = self.version.levels().iter().skip(1).filter(|tables| !tables.is_empty());
        let mut sources = Vec::with_capacity(1 + self.sealed.len() + young + rest.count());
        for memtable in std::iter::once(&self.active).chain(&self.sealed) {
            // What is visible was counted before.
            if memtable.entries() > 0 {
                sources.push(Source::Memtable(MemCursor::new(memtable.clone())));
            }
        }
        for (level, tables) in self.version.levels().iter().enumerate() {
            let range = Reach { start, end, direction };
            if level == 0 {
                let may_hold = |table: &&Arc<Table>| {
                    table.record.min_seqno <= at && range.touches(&table.record)
                };
                let held = tables.iter().filter(may_hold);
                let cursors = held.map(|table| TableCursor::new(table.clone(), true));
                sources.extend(cursors.map(Source::Table));
            } else if range.touches_any(tables) {
                let level = Disjoint::Level(self.version.clone(), level);
                sources.push(Source::Level(LevelCursor::new(level, true)));
            }
        }
        sources
    }

    /// The value of `key` as of `at`.
    pub(crate) fn get(
        &self,
        key: &[u8],
        at: Seqno,
        config: &TreeConfig,
    ) -> Result<Option<Bytes>, Error> {
        let mut lookup = Lookup::new(key);
        self.lookup(key, at, &mut lookup)?;
        lookup.value(config)
    }

    fn lookup(&self, key: &[u8], at: Seqno, lookup: &mut Lookup<'_>) -> Result<(), Error> {
        let mut copied = |seqno: Seqno, kind: ValueKind, value: &[u8]| {
            lookup.version(seqno, kind, || Bytes::copy_from_slice(value))
        };
        for memtable in std::iter::once(&self.active).chain(&self.sealed) {
            if memtable.visit(key, at, &mut copied).is_break() {
                return Ok(());
            }
        }
        if self.version.is_empty() {
            return Ok(());
        }
        let hash = filter::hash(key);
        let mut shared =
            |seqno: Seqno, kind: ValueKind, value: Bytes| lookup.version(seqno, kind, || value);
        for table in self.version.level(0) {
            if table.visit(key, hash, at, &mut shared)?.is_break() {
                return Ok(());
            }
        }
        for level in 1..LEVELS {
            if let Some(table) = self.version.find(level, key)
                && table.visit(key, hash, at, &mut shared)?.is_break()
            {
                return Ok(());
            }
        }
        Ok(())
    }
}

pub(crate) struct TreeInner {
    id: u32,
    name: String,
    config: ArcSwap<TreeConfig>,
    view: ArcSwap<View>,
    dropped: AtomicBool,
    counters: Counters,
    shared: Arc<Shared>,
}

/// A handle of a tree; cheap to clone.
#[derive(Clone)]
pub struct Tree {
    inner: Arc<TreeInner>,
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree").field("id", &self.id()).field("name", &self.name()).finish()
    }
}

impl Tree {
    pub(crate) fn new(id: u32, config: TreeConfig, version: Version, shared: Arc<Shared>) -> Self {
        let active = Arc::new(Memtable::new(shared.supply.clone()));
        let view = View { active, sealed: Vec::new(), version: Arc::new(version) };
        Self {
            inner: Arc::new(TreeInner {
                id,
                name: config.name.clone(),
                config: ArcSwap::from_pointee(config),
                view: ArcSwap::from_pointee(view),
                dropped: AtomicBool::new(false),
                counters: Counters::default(),
                shared,
            }),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The value of `key` as of a snapshot.
    ///
    /// # Errors
    /// [`Error::Corruption`] or [`Error::Io`] when a source cannot be read, never a wrong or
    /// missing value; [`Error::Merge`] when the operands make no sense.
    pub fn get(&self, key: &[u8], at: &Snapshot) -> Result<Option<Bytes>, Error> {
        self.get_at(&self.view(), key, at.seqno())
    }

    /// The value of `key` as of now.
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub fn get_latest(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        // First the view, then the seqno: whatever a compaction dropped from this view's tables
        // was covered at a seqno that was visible before.
        let view = self.view();
        let at = self.inner.shared.visible();
        self.get_at(&view, key, at)
    }

    /// The values of many keys as of a snapshot, in their order: as [`Tree::get`] of each, with one
    /// read of each block that several of them are in.
    ///
    /// # Errors
    /// As [`Tree::get`] of any of them.
    pub fn get_many<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        at: &Snapshot,
    ) -> Result<Vec<Option<Bytes>>, Error> {
        self.view().get_many(keys, at.seqno(), &self.inner.config.load())
    }

    /// The values of many keys as of now, all as of one moment: as [`Tree::get_many`].
    ///
    /// # Errors
    /// As [`Tree::get_many`].
    pub fn get_many_latest<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Bytes>>, Error> {
        // In this order, as in `get_latest`.
        let view = self.view();
        let at = self.inner.shared.visible();
        view.get_many(keys, at, &self.inner.config.load())
    }

    /// The keys and values of a range as of a snapshot, ascending.
    #[must_use]
    pub fn scan(&self, range: KeyRange, at: &Snapshot) -> Scan {
        Scan::new(self, range, at.seqno(), Direction::Forward)
    }

    /// The keys and values of a range as of a snapshot, descending.
    #[must_use]
    pub fn scan_rev(&self, range: KeyRange, at: &Snapshot) -> Scan {
        Scan::new(self, range, at.seqno(), Direction::Reverse)
    }

    fn get_at(&self, view: &View, key: &[u8], at: Seqno) -> Result<Option<Bytes>, Error> {
        let mut lookup = Lookup::new(key);
        view.lookup(key, at, &mut lookup)?;
        match lookup.operands() {
            0 => return Ok(lookup.into_base()),
            chain if chain < MAX_OPERAND_CHAIN as usize => {
                return lookup.finish(&self.inner.config.load());
            }
            _ => {}
        }
        let newest = lookup.newest();
        let value = lookup.finish(&self.inner.config.load())?;
        self.collapse(view, key, newest, value.as_deref());
        Ok(value)
    }

    /// Puts what a reader computed from many operands back, under the newest operand's seqno: the
    /// history up to there is immutable, so this changes no answer. Only in the active memtable:
    /// a sealed one may be on its way to a table.
    fn collapse(&self, view: &View, key: &[u8], newest: Seqno, value: Option<&[u8]>) {
        let active = &view.active;
        let mut is_here = false;
        let _ended = active.visit(key, newest, &mut |seqno, kind, _value| {
            is_here = seqno == newest && kind == ValueKind::Merge;
            ControlFlow::Break(())
        });
        let room = active.bytes() < self.inner.config.load().memtable_bytes;
        if is_here && room {
            let kind = if value.is_some() { ValueKind::Put } else { ValueKind::Delete };
            active.insert(key, newest, kind, value.unwrap_or_default());
        }
    }

    /// The value of `key` as of a seqno that no snapshot may hold: possibly an older one.
    pub(crate) fn get_as_of(&self, key: &[u8], at: Seqno) -> Result<Option<Bytes>, Error> {
        self.get_at(&self.view(), key, at)
    }

    pub(crate) fn id(&self) -> u32 {
        self.inner.id
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    pub(crate) fn belongs_to(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.inner.shared, shared)
    }

    pub(crate) fn view(&self) -> Guard<Arc<View>> {
        self.inner.view.load()
    }

    /// As [`Tree::view`], to keep.
    pub(crate) fn view_full(&self) -> Arc<View> {
        self.inner.view.load_full()
    }

    pub(crate) fn config(&self) -> Arc<TreeConfig> {
        self.inner.config.load_full()
    }

    /// As [`Tree::config`], for a quick look.
    pub(crate) fn config_ref(&self) -> Guard<Arc<TreeConfig>> {
        self.inner.config.load()
    }

    pub(crate) fn configure(&self, config: TreeConfig) {
        self.inner.config.store(Arc::new(config));
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.inner.dropped.load(Ordering::Acquire)
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    pub(crate) fn set_dropped(&self, dropped: bool) {
        self.inner.dropped.store(dropped, Ordering::Release);
    }

    /// Replaces the view by what `change` makes of it; may run `change` more than once.
    pub(crate) fn update(&self, mut change: impl FnMut(&View) -> View) {
        self.inner.view.rcu(|view| change(view));
    }

    /// Seals the active memtable; under the commit lock. `last` is the last seqno numbered.
    pub(crate) fn seal(&self, last: Seqno) {
        let fresh = Arc::new(Memtable::new(self.inner.shared.supply.clone()));
        self.update(|view| {
            view.active.seal(last);
            let mut sealed = Vec::with_capacity(view.sealed.len() + 1);
            sealed.push(view.active.clone());
            sealed.extend_from_slice(&view.sealed);
            View { active: fresh.clone(), sealed, ..view.clone() }
        });
    }

    /// Collapses the operands of `key`, whose newest one was just made visible at `seqno`.
    pub(crate) fn collapse_at(&self, key: &[u8], seqno: Seqno) {
        // An operand that cannot be merged stays; its readers get the error.
        let _value = self.get_at(&self.view(), key, seqno);
    }
}
