//! A keyspace's vnodes: for each its lock, and under the lock its clock and what the replica can
//! prove of it.
//!
//! INVARIANT: whoever changes a row or the clock of a vnode holds its lock from before it looks at
//! either until the storage engine shows the change. So whoever takes a snapshot under the lock has
//! rows and clock of one moment. The standing, which readers look at without the lock, changes
//! only under it.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use meridian_crdt::{Dot, VnodeClock};
use meridian_lsm::Commit;
use meridian_topology::VnodeCount;
use meridian_types::{Hlc, Incarnation, KeyspaceId, VnodeId};
use parking_lot::{Mutex, MutexGuard};

use crate::error::StoreError;
use crate::forgetting::Forgetting;
use crate::passing::Passing;
use crate::standing::{Goods, PeerStanding, Standing, VnodeKind, VnodeState};
use crate::waiting::Waiters;

/// Vnodes whose locks are allocated together: a node of a large cluster owns few of all vnodes.
const CHUNK: usize = 64;

/// Dots added one by one to the stored clock, after which it is stored whole: fewer than the engine
/// lets operands pile up before it reads and merges them on the writer's thread.
const MAX_CLOCK_OPERANDS: u32 = meridian_lsm::MAX_OPERAND_CHAIN - 2;

/// What is known of one vnode.
#[derive(Debug)]
pub(crate) struct Vnode {
    id: (KeyspaceId, VnodeId),
    clock: Arc<VnodeClock>,
    /// As it is recorded. Nothing is until the first change: see [`Self::state`].
    state: Option<Box<VnodeState>>,
    may_have_loose: bool,
    /// Of the clock as it is.
    digest: Option<u128>,
    /// No entry of its rows has a higher stamp.
    top: Hlc,
    /// Dots added to the stored clock since it was stored whole.
    operands: u32,
    /// The last write of this life.
    last: Commit,
    /// What those who forget must know.
    pub(crate) forgetting: Forgetting,
    /// Readers that wait for the clock.
    waiters: Waiters,
    /// Full pulls of it that are under way.
    pub(crate) passing: Passing,
}

impl Vnode {
    /// Its keyspace, and its number there.
    pub(crate) fn id(&self) -> (KeyspaceId, VnodeId) {
        self.id
    }

    /// What the replica can prove of it. Without a record and without a clock nothing was ever
    /// here, as far as anybody knows; `life` is the incarnation of this start. With a clock alone it
    /// is from before there were such records.
    pub(crate) fn state(&self, life: Incarnation) -> VnodeState {
        match &self.state {
            Some(state) => VnodeState::clone(state),
            None if self.clock.is_empty() => VnodeState::begun(VnodeKind::Fresh, life),
            None => VnodeState::sound(),
        }
    }

    /// Whether its first change must be recorded with what the replica can prove of it: later a
    /// clock without a record would pass for a sound one.
    pub(crate) fn is_unrecorded(&self) -> bool {
        self.state.is_none() && self.clock.is_empty()
    }

    /// Whether its rows may hold entries whose dots the clock does not have.
    pub(crate) fn may_have_loose(&self) -> bool {
        self.may_have_loose
    }

    /// Notes what was recorded; the standing is the caller's ([`Vnodes::publish`]).
    pub(crate) fn recorded(&mut self, state: VnodeState) {
        self.may_have_loose = state.kind == VnodeKind::Rebuilding;
        self.state = Some(Box::new(state));
    }

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

    /// Notes one dot, once the storage engine shows it. Copies the clock if a reader still holds it.
    pub(crate) fn insert(&mut self, dot: Dot) {
        Arc::make_mut(&mut self.clock).insert(dot);
        self.digest = None;
        self.waiters.wake(&self.clock);
    }

    /// As [`Self::insert`], of many.
    pub(crate) fn replace(&mut self, clock: VnodeClock) {
        self.clock = Arc::new(clock);
        self.digest = None;
        self.waiters.wake(&self.clock);
    }

    pub(crate) fn waiters(&mut self) -> &mut Waiters {
        &mut self.waiters
    }

    pub(crate) fn digest(&mut self) -> u128 {
        let Self { clock, digest, .. } = self;
        *digest.get_or_insert_with(|| clock.digest())
    }
}

#[derive(Debug)]
struct Slot {
    /// [`Standing::to_byte`].
    standing: AtomicU8,
    vnode: Mutex<Vnode>,
}

type Chunk = Box<[Slot]>;

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

    fn slot(&self, vnode: VnodeId) -> &Slot {
        let at = vnode.0 as usize;
        let chunk = self.chunks[at / CHUNK].get_or_init(|| {
            let first = at / CHUNK * CHUNK;
            (first..first + CHUNK).map(|at| self.empty_slot(at)).collect()
        });
        &chunk[at % CHUNK]
    }

    fn empty_slot(&self, at: usize) -> Slot {
        // No ring has as many vnodes as that.
        let id = (self.keyspace, VnodeId(u32::try_from(at).unwrap_or(u32::MAX)));
        let (clock, last) = (self.empty.clone(), Commit::default());
        let vnode = Vnode {
            id,
            clock,
            state: None,
            may_have_loose: false,
            digest: None,
            top: self.floor,
            operands: 0,
            last,
            forgetting: Forgetting::default(),
            waiters: Waiters::default(),
            passing: Passing::default(),
        };
        Slot { standing: AtomicU8::new(Self::nothing_known().to_byte()), vnode: Mutex::new(vnode) }
    }

    /// The slot of a vnode, if anything was ever asked of it.
    fn known_slot(&self, vnode: VnodeId) -> Option<&Slot> {
        let at = vnode.0 as usize;
        let chunk = self.chunks.get(at / CHUNK)?.get()?;
        Some(&chunk[at % CHUNK])
    }

    /// Locks a vnode; it must be one of the ring's.
    pub(crate) fn lock(&self, vnode: VnodeId) -> MutexGuard<'_, Vnode> {
        self.slot(vnode).vnode.lock()
    }

    /// Locks a vnode, if anything was ever asked of it.
    fn lock_known(&self, vnode: VnodeId) -> Option<MutexGuard<'_, Vnode>> {
        self.known_slot(vnode).map(|slot| slot.vnode.lock())
    }

    /// What a vnode is good for: for readers, without its lock.
    pub(crate) fn standing(&self, vnode: VnodeId) -> Standing {
        self.known_slot(vnode).map_or_else(Self::nothing_known, |slot| {
            Standing::from_byte(slot.standing.load(Ordering::Acquire))
        })
    }

    /// Shows readers what a vnode is good for. To be called under its lock.
    pub(crate) fn publish(&self, vnode: VnodeId, standing: Standing) {
        self.slot(vnode).standing.store(standing.to_byte(), Ordering::Release);
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
        let slots = chunks.flat_map(|chunk| chunk.iter());
        slots.filter(|slot| !slot.vnode.lock().clock.is_empty()).count()
    }

    /// Vnodes with a number above `after` that may have something to forget, at most `limit`.
    pub(crate) fn with_debris(&self, after: Option<VnodeId>, limit: usize) -> Vec<VnodeId> {
        let chunks = self.chunks.iter().filter_map(OnceLock::get);
        let slots = chunks.flat_map(|chunk| chunk.iter()).map(|slot| slot.vnode.lock());
        let found = slots.filter_map(|vnode| {
            let has_any = vnode.forgetting.has_debris() && !vnode.clock.is_empty();
            has_any.then_some(vnode.id.1)
        });
        found.filter(|vnode| after.is_none_or(|after| *vnode > after)).take(limit).collect()
    }

    /// Waits until nobody holds a lock that was taken before.
    pub(crate) fn drain(&self) {
        for chunk in self.chunks.iter().filter_map(OnceLock::get) {
            for slot in chunk {
                drop(slot.vnode.lock());
            }
        }
    }

    /// Of a vnode that nothing was ever asked of: it is fresh.
    pub(crate) fn nothing_known() -> Standing {
        Standing::new(&VnodeState::begun(VnodeKind::Fresh, Incarnation(0)), Goods::NONE)
    }

    /// What is said of a vnode to other replicas; `locked` is its vnode.
    pub(crate) fn peer_standing(&self, locked: &Vnode, life: Incarnation) -> PeerStanding {
        let state = locked.state(life);
        let goods = self.standing(locked.id.1).goods();
        PeerStanding { kind: state.kind, goods, loss: state.loss }
    }
}
