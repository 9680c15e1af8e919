//! A keyspace's vnodes: for each its lock, and under the lock its clock.
//!
//! INVARIANT: whoever changes a row or the clock of a vnode holds its lock from before it looks at
//! either until the storage engine shows the change. So whoever takes a snapshot under the lock has
//! rows and clock of one moment.

use std::sync::{Arc, OnceLock};

use meridian_crdt::{Dot, VnodeClock};
use meridian_lsm::Commit;
use meridian_topology::VnodeCount;
use meridian_types::{Hlc, KeyspaceId, VnodeId};
use parking_lot::{Mutex, MutexGuard};

use crate::error::StoreError;

/// Vnodes whose locks are allocated together: a node of a large cluster owns few of all vnodes.
const CHUNK: usize = 64;

/// Dots added one by one to the stored clock, after which it is stored whole: fewer than the engine
/// lets operands pile up before it reads and merges them on the writer's thread.
const MAX_CLOCK_OPERANDS: u32 = meridian_lsm::MAX_OPERAND_CHAIN - 2;

/// What is known of one vnode.
#[derive(Debug)]
pub(crate) struct Vnode {
    clock: Arc<VnodeClock>,
    /// Of the clock as it is.
    digest: Option<u128>,
    /// No entry of its rows has a higher stamp.
    top: Hlc,
    /// Dots added to the stored clock since it was stored whole.
    operands: u32,
    /// The last write of this life.
    last: Commit,
}

impl Vnode {
    pub(crate) fn clock(&self) -> &Arc<VnodeClock> {
        &self.clock
    }

    /// Whether a stamp is higher than that of every entry of the vnode's rows.
    pub(crate) fn is_above_all(&self, stamp: Hlc) -> bool {
        stamp > self.top
    }

    /// Notes the stamp of an entry.
    pub(crate) fn raise(&mut self, stamp: Hlc) {
        self.top = self.top.max(stamp);
    }

    /// Settled when everything is that readers of the vnode see: its rows and its clock.
    pub(crate) fn commit(&self) -> Commit {
        self.last
    }

    /// Notes a write of a row or of the clock.
    pub(crate) fn written(&mut self, commit: Commit) {
        self.last = commit;
    }

    /// Whether the clock should be stored whole with the next dot.
    pub(crate) fn is_clock_due(&self) -> bool {
        self.operands >= MAX_CLOCK_OPERANDS
    }

    /// Notes that the clock was stored whole, or that dots were added to it.
    pub(crate) fn clock_stored(&mut self, whole: bool) {
        self.operands = if whole { 0 } else { self.operands + 1 };
    }

    /// Notes one dot. Copies the clock if a reader still holds it.
    pub(crate) fn insert(&mut self, dot: Dot) {
        Arc::make_mut(&mut self.clock).insert(dot);
        self.digest = None;
    }

    pub(crate) fn replace(&mut self, clock: VnodeClock) {
        self.clock = Arc::new(clock);
        self.digest = None;
    }

    pub(crate) fn digest(&mut self) -> u128 {
        let Self { clock, digest, .. } = self;
        *digest.get_or_insert_with(|| clock.digest())
    }
}

type Chunk = Box<[Mutex<Vnode>]>;

/// The vnodes of a keyspace.
#[derive(Debug)]
pub(crate) struct Vnodes {
    pub(crate) keyspace: KeyspaceId,
    count: VnodeCount,
    chunks: Box<[OnceLock<Chunk>]>,
    empty: Arc<VnodeClock>,
    /// No entry that was there when the store was opened has a higher stamp.
    floor: Hlc,
}

impl Vnodes {
    pub(crate) fn new(keyspace: KeyspaceId, count: VnodeCount, floor: Hlc) -> Self {
        let chunks = (count.get() as usize).div_ceil(CHUNK);
        let chunks = (0..chunks).map(|_| OnceLock::new()).collect();
        Self { keyspace, count, chunks, empty: Arc::default(), floor }
    }

    pub(crate) fn check(&self, vnode: VnodeId) -> Result<(), StoreError> {
        if self.count.contains(vnode) {
            return Ok(());
        }
        Err(StoreError::NoSuchVnode { vnode, count: self.count.get() })
    }

    /// Locks a vnode; it must be one of the ring's.
    pub(crate) fn lock(&self, vnode: VnodeId) -> MutexGuard<'_, Vnode> {
        let at = vnode.0 as usize;
        let chunk = self.chunks[at / CHUNK].get_or_init(|| {
            let vnode = || {
                let clock = self.empty.clone();
                let last = Commit::default();
                Mutex::new(Vnode { clock, digest: None, top: self.floor, operands: 0, last })
            };
            (0..CHUNK).map(|_| vnode()).collect()
        });
        chunk[at % CHUNK].lock()
    }

    /// Locks a vnode, if anything was ever asked of it.
    fn lock_known(&self, vnode: VnodeId) -> Option<MutexGuard<'_, Vnode>> {
        let at = vnode.0 as usize;
        let chunk = self.chunks.get(at / CHUNK)?.get()?;
        Some(chunk[at % CHUNK].lock())
    }

    pub(crate) fn clock(&self, vnode: VnodeId) -> Arc<VnodeClock> {
        self.lock_known(vnode).map_or_else(|| self.empty.clone(), |vnode| vnode.clock.clone())
    }

    pub(crate) fn digest(&self, vnode: VnodeId) -> u128 {
        self.lock_known(vnode).map_or_else(|| self.empty.digest(), |mut vnode| vnode.digest())
    }

    /// How many vnodes have a clock that is not empty.
    pub(crate) fn written(&self) -> usize {
        let chunks = self.chunks.iter().filter_map(OnceLock::get);
        chunks.flat_map(|chunk| chunk.iter()).filter(|v| !v.lock().clock.is_empty()).count()
    }

    /// Waits until nobody holds a lock that was taken before.
    pub(crate) fn drain(&self) {
        for chunk in self.chunks.iter().filter_map(OnceLock::get) {
            for vnode in chunk {
                drop(vnode.lock());
            }
        }
    }
}
