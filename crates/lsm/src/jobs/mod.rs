//! What may run now: flushes first, then removing files, then compactions. No threads: whoever
//! has some calls [`Core::poll_job`].

mod stall;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::compaction::choice::{Choice, choose, everything, pending_bytes};
use crate::compaction::execute::compact;
use crate::compaction::limiter::Load;
use crate::compaction::merge::Merge;
use crate::compaction::view::{Claim, LevelsView};
use crate::db::Core;
use crate::error::Error;
use crate::flush;
use crate::options::WAL_SEGMENTS_KEPT;
use crate::table::garbage::table_of;
use crate::table::reader::Table;
use crate::tree::Tree;

#[derive(Default)]
struct Running {
    flushing: BTreeSet<u32>,
    /// By tree, in no order.
    compacting: BTreeMap<u32, Vec<Claim>>,
    /// Who removes files.
    removing: usize,
    /// Whether the last removal failed: others come first then, or it would keep them from running.
    removal_failed: bool,
    /// Trees that somebody wants whole: no further compaction of them begins.
    reserved: BTreeSet<u32>,
    /// The tree that had the last compaction: the others come first.
    turn: u32,
    /// Merges with parts that anybody may take.
    parted: Vec<Arc<Merge>>,
    failure: Option<Error>,
    stopping: bool,
    /// Rises with everything that may make work or room: who looked before the last rise looks
    /// again instead of sleeping.
    changes: u64,
}

/// Who runs what, and who waits for it.
#[derive(Default)]
pub(crate) struct Jobs {
    running: Mutex<Running>,
    changed: Condvar,
    /// Threads that poll.
    pub(crate) threads: AtomicUsize,
    debt_nanos: AtomicU64,
    pub(crate) slowdowns: AtomicU64,
    pub(crate) slowdown_nanos: AtomicU64,
    pub(crate) stops: AtomicU64,
    pub(crate) failures: AtomicU64,
}

enum Job {
    Flush(Tree),
    Compact(Tree, Choice, Claim),
    Part(Arc<Merge>, usize),
    Remove,
}

impl Running {
    fn begin_removal(&mut self) -> Job {
        self.removing += 1;
        Job::Remove
    }

    fn is_idle(&self) -> bool {
        let compacting = self.compacting.values().any(|claims| !claims.is_empty());
        !compacting && self.flushing.is_empty() && self.removing == 0
    }
}

impl Jobs {
    /// Tells sleeping workers that there may be something to do.
    pub(crate) fn notify(&self) {
        self.running.lock().changes += 1;
        self.changed.notify_all();
    }

    /// To be read before looking for work or room.
    pub(crate) fn changes(&self) -> u64 {
        self.running.lock().changes
    }

    pub(crate) fn last_failure(&self) -> Option<Error> {
        self.running.lock().failure.clone()
    }

    /// Flushes and compactions under way.
    pub(crate) fn running(&self) -> (u64, u64) {
        let running = self.running.lock();
        let compactions: usize = running.compacting.values().map(Vec::len).sum();
        (running.flushing.len() as u64, compactions as u64)
    }

    /// How many compactions of a tree are under way.
    pub(crate) fn compactions(&self, tree: u32) -> usize {
        self.running.lock().compacting.get(&tree).map_or(0, Vec::len)
    }

    pub(crate) fn set_stopping(&self, stopping: bool) {
        self.running.lock().stopping = stopping;
        self.changed.notify_all();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.running.lock().stopping
    }
}

/// Marks a job as ended however it ends.
struct Ended<'a> {
    jobs: &'a Jobs,
    what: What,
}

/// What has begun.
enum What {
    Flush(u32),
    Compaction(u32, Claim),
    Removal,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let mut running = self.jobs.running.lock();
        match &self.what {
            What::Flush(tree) => {
                running.flushing.remove(tree);
            }
            What::Compaction(tree, claim) => {
                let claims = running.compacting.entry(*tree).or_default();
                if let Some(at) = claims.iter().position(|other| other == claim) {
                    claims.swap_remove(at);
                }
                if claims.is_empty() {
                    running.compacting.remove(tree);
                }
            }
            What::Removal => running.removing -= 1,
        }
        running.changes += 1;
        self.jobs.changed.notify_all();
    }
}

/// Keeps compactions from a tree.
struct Reserved<'a> {
    jobs: &'a Jobs,
    tree: u32,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut running = self.jobs.running.lock();
        running.reserved.remove(&self.tree);
        running.changes += 1;
        self.jobs.changed.notify_all();
    }
}

impl Core {
    /// Runs one job, if there is one.
    pub(crate) fn poll_job(&self) -> Result<bool, Error> {
        self.log.check()?;
        self.seal_what_holds_the_log()?;
        let Some(job) = self.next_job(&mut self.jobs.running.lock()) else { return Ok(false) };
        let outcome = self.run(job);
        let mut running = self.jobs.running.lock();
        running.failure = outcome.as_ref().err().cloned();
        if running.failure.is_some() {
            self.jobs.failures.fetch_add(1, Ordering::Relaxed);
        }
        drop(running);
        outcome.map(|()| true)
    }

    /// Runs what is pending and waits for what others run, until there is neither.
    pub(crate) fn finish_jobs(&self) -> Result<(), Error> {
        loop {
            let seen = self.jobs.changes();
            if self.poll_job()? {
                continue;
            }
            let mut running = self.jobs.running.lock();
            if running.is_idle() {
                return Ok(());
            }
            if running.changes == seen {
                self.jobs.changed.wait(&mut running);
            }
        }
    }

    fn run(&self, job: Job) -> Result<(), Error> {
        match job {
            Job::Flush(tree) => {
                let _ended = Ended { jobs: &self.jobs, what: What::Flush(tree.id()) };
                flush::flush(self, &tree)
            }
            Job::Compact(tree, choice, claim) => {
                let what = What::Compaction(tree.id(), claim);
                let _ended = Ended { jobs: &self.jobs, what };
                compact(self, &tree, &choice)
            }
            Job::Part(merge, part) => {
                merge.run(self, part);
                Ok(())
            }
            Job::Remove => {
                let _ended = Ended { jobs: &self.jobs, what: What::Removal };
                let removed = self.remove_garbage();
                self.jobs.running.lock().removal_failed = removed.is_err();
                removed
            }
        }
    }

    fn next_job(&self, running: &mut Running) -> Option<Job> {
        let trees = self.trees.read();
        let flushable = trees.values().filter(|tree| !running.flushing.contains(&tree.id()));
        let fullest = flushable.max_by_key(|tree| tree.view().sealed.len());
        if let Some(tree) = fullest.filter(|tree| !tree.view().sealed.is_empty()) {
            running.flushing.insert(tree.id());
            return Some(Job::Flush(tree.clone()));
        }
        // Before compactions: while there is always another one, its inputs would fill the disk.
        let is_garbage = running.removing == 0 && !self.garbage.is_empty();
        if is_garbage && !running.removal_failed {
            return Some(running.begin_removal());
        }
        let taken = running.parted.iter().find_map(|merge| Some((merge.clone(), merge.take()?)));
        if let Some((merge, part)) = taken {
            return Some(Job::Part(merge, part));
        }
        let compaction = self.next_compaction(&trees, running);
        compaction.or_else(|| is_garbage.then(|| running.begin_removal()))
    }

    fn next_compaction(
        &self,
        trees: &BTreeMap<String, Tree>,
        running: &mut Running,
    ) -> Option<Job> {
        let mut in_turn: Vec<&Tree> =
            trees.values().filter(|tree| !running.reserved.contains(&tree.id())).collect();
        in_turn.sort_unstable_by_key(|tree| (tree.id() <= running.turn, tree.id()));
        for tree in in_turn {
            let claims = running.compacting.entry(tree.id()).or_default();
            let view = self.levels_view(tree, claims);
            let strategy = tree.config_ref().compaction;
            let pending = pending_bytes(strategy, &view);
            tree.counters().pending_bytes.store(pending, Ordering::Relaxed);
            if let Some(choice) = choose(strategy, &view) {
                let claim = view.claim(&choice);
                claims.push(claim.clone());
                running.turn = tree.id();
                return Some(Job::Compact(tree.clone(), choice, claim));
            }
        }
        None
    }

    /// Carries out a merge; if it has parts, together with whoever looks for work meanwhile.
    pub(crate) fn merge(&self, merge: &Arc<Merge>) -> Result<Vec<Arc<Table>>, Error> {
        if !merge.is_parted() {
            return merge.finish(self);
        }
        self.jobs.running.lock().parted.push(merge.clone());
        self.jobs.notify();
        let outcome = merge.finish(self);
        self.jobs.running.lock().parted.retain(|other| !Arc::ptr_eq(other, merge));
        outcome
    }

    /// What the rate limit follows.
    pub(crate) fn load(&self) -> Load {
        Load { reads: self.cache.stats().misses, backlog: self.backlog_permille() }
    }

    fn levels_view(&self, tree: &Tree, claims: &[Claim]) -> LevelsView {
        let counters = tree.counters();
        let version = &tree.view().version;
        let blobs = version.blobs_to_collect(tree.config_ref().blobs.unwrap_or_default());
        let flushes = counters.flushes.load(Ordering::Relaxed).max(1);
        LevelsView {
            now_ms: self.now_ms(),
            flush_bytes: counters.flushed_bytes.load(Ordering::Relaxed) / flushes,
            newest_snapshot: self.shared.snapshots.held().last().copied(),
            ..LevelsView::of(version, claims, &blobs)
        }
    }

    fn remove_garbage(&self) -> Result<(), Error> {
        let files = self.garbage.take();
        let removed = self.remove_files(&files);
        match removed {
            Ok(()) => self.garbage.gone(&files),
            Err(_) => files.into_iter().for_each(|file| self.garbage.put(file)),
        }
        removed
    }

    /// Removes files that nobody needs. One that was never there is gone as well.
    fn remove_files(&self, files: &[PathBuf]) -> Result<(), Error> {
        for file in files {
            if self.fs.exists(file)? {
                self.fs.remove(file)?;
            }
        }
        // Until then a table may come back, and those written meanwhile say that it is none.
        if files.iter().any(|file| table_of(file).is_some()) {
            self.fs.sync_dir(&self.dir)?;
        }
        Ok(())
    }

    /// Seals memtables that keep old segments of the log.
    fn seal_what_holds_the_log(&self) -> Result<(), Error> {
        let current = self.log.segment();
        self.seal_where(|tree| {
            let floor = tree.view().active.wal_floor();
            floor.checked_add(WAL_SEGMENTS_KEPT).is_some_and(|until| until < current)
        })
    }

    /// Seals memtables that a replay filled beyond their size.
    pub(crate) fn seal_what_is_full(&self) -> Result<(), Error> {
        self.seal_where(|tree| tree.view().active.bytes() >= tree.config().memtable_bytes)
    }

    fn seal_where(&self, due: impl Fn(&Tree) -> bool) -> Result<(), Error> {
        let trees: Vec<Tree> =
            self.trees.read().values().filter(|tree| due(tree)).cloned().collect();
        for tree in trees {
            let queue = self.log.queue()?;
            self.seal(&tree, queue.last());
        }
        Ok(())
    }

    /// Flushes everything that is in memory now.
    pub(crate) fn flush_all(&self) -> Result<(), Error> {
        let trees: Vec<Tree> = self.trees.read().values().cloned().collect();
        let last = {
            let queue = self.log.queue()?;
            for tree in trees.iter().filter(|tree| !tree.view().active.is_unused()) {
                self.seal(tree, queue.last());
            }
            queue.last()
        };
        // Everything in the segments before is in tables at the end: they go.
        self.log.rotate()?;
        for tree in &trees {
            let pending = || {
                let view = tree.view();
                view.sealed.last().is_some_and(|oldest| oldest.sealed_at() <= last)
            };
            while pending() {
                if self.claim_flush(tree, pending) {
                    self.run(Job::Flush(tree.clone()))?;
                }
            }
        }
        flush::trim_log(self)?;
        self.remove_garbage()
    }

    /// Merges everything of a tree into its deepest level.
    pub(crate) fn compact_all(&self, tree: &Tree) -> Result<(), Error> {
        self.flush_all()?;
        if let Some((choice, claim)) = self.claim_everything(tree) {
            self.run(Job::Compact(tree.clone(), choice, claim))?;
        }
        self.remove_garbage()
    }

    /// Waits until the tree is free for a flush and claims it; gives up when the work is done by
    /// somebody else.
    fn claim_flush(&self, tree: &Tree, still_wanted: impl Fn() -> bool) -> bool {
        let mut running = self.jobs.running.lock();
        loop {
            if !still_wanted() {
                return false;
            }
            if running.flushing.insert(tree.id()) {
                return true;
            }
            self.jobs.changed.wait(&mut running);
        }
    }

    /// Does something while nobody flushes (or compacts) the tree.
    pub(crate) fn exclusively<T>(&self, tree: &Tree, flush: bool, act: impl FnOnce() -> T) -> T {
        if flush {
            self.claim_flush(tree, || true);
            let _ended = Ended { jobs: &self.jobs, what: What::Flush(tree.id()) };
            return act();
        }
        let _reserved = self.hold_compactions(tree);
        act()
    }

    /// Waits until nobody compacts the tree, and keeps it so.
    fn hold_compactions(&self, tree: &Tree) -> Reserved<'_> {
        let mut running = self.jobs.running.lock();
        while !running.reserved.insert(tree.id()) {
            self.jobs.changed.wait(&mut running);
        }
        while running.compacting.get(&tree.id()).is_some_and(|claims| !claims.is_empty()) {
            self.jobs.changed.wait(&mut running);
        }
        Reserved { jobs: &self.jobs, tree: tree.id() }
    }

    /// Claims all tables of a tree; what is flushed from then on is free.
    fn claim_everything(&self, tree: &Tree) -> Option<(Choice, Claim)> {
        let _reserved = self.hold_compactions(tree);
        let mut running = self.jobs.running.lock();
        let view = self.levels_view(tree, &[]);
        let choice = everything(&view)?;
        let claim = view.claim(&choice);
        running.compacting.entry(tree.id()).or_default().push(claim.clone());
        Some((choice, claim))
    }

    /// Sleeps until something has changed since `seen`, at most `most`; false when it is time to
    /// stop.
    pub(crate) fn sleep_until_job(&self, seen: u64, most: Duration) -> bool {
        let mut running = self.jobs.running.lock();
        if !running.stopping && running.changes == seen {
            self.jobs.changed.wait_for(&mut running, most);
        }
        !running.stopping
    }
}
