//! The block cache: raw blocks by table and offset, and values by blob file and offset, bounded in
//! bytes together, shared by all trees. Sharded and scan-resistant (S3-FIFO): a block has to be asked
//! for twice to push out what is hot.
//!
//! INVARIANT: tables and blob files are numbered together, and no number is given twice: what is left
//! of a file that is gone is asked for by nobody.
//!
//! The indexes and filters of open tables stay in memory; they count, and blocks have the rest.
//! Those of large tables are in partitions, which stay as well while they are few, and are blocks
//! like others beyond that.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::{Cache, DefaultLifecycle};

use super::block::Block;
use super::filter::Filter;
use super::index::Index;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};

/// What an entry costs beside its bytes: key, handle and the cache's own table.
const OVERHEAD: u64 = 96;
/// Expected bytes of a block: sizes the cache's table, no more.
const USUAL_BLOCK: u64 = 8 << 10;

/// Blocks keep this share of the bound, whatever is pinned: without any, each read would go to the
/// disk. One part in so many.
const LEAST_SHARE: u64 = 8;

/// Partitions stay while everything that stays is within this share of the bound: one part in so
/// many. Index and filter are about a sixtieth of what they are for, so tables whose partitions fill
/// a quarter of the cache are fifteen times the cache: most reads go to the disk then, whatever stays.
const STAYING_SHARE: u64 = 4;

/// A value has at most this part of a shard: a larger one would push out too many others. One part
/// in so many.
const VALUE_SHARE: u64 = 8;

/// A value of a blob file.
#[derive(Clone, Debug)]
pub(crate) struct CachedValue {
    pub(crate) value: Bytes,
    /// Hash of the key that it belongs to: a reference to another key's is found out.
    pub(crate) key: u64,
    /// Bytes that `value` keeps in memory.
    pub(crate) held: u32,
}

/// What is at a place of a file, as those who ask for it need it.
#[derive(Clone)]
pub(crate) enum Cached {
    Block(Block),
    Value(CachedValue),
    Index(Arc<Index>),
    Filter(Filter),
}

impl Cached {
    fn weight(&self) -> u64 {
        let bytes = match self {
            Self::Block(block) => block.bytes() as u64,
            Self::Value(value) => u64::from(value.held),
            Self::Index(index) => index.bytes() as u64,
            Self::Filter(filter) => filter.bytes() as u64,
        };
        bytes + OVERHEAD
    }
}

/// A part of an index or a filter.
pub(crate) trait Partition: Clone {
    fn bytes(&self) -> usize;
    fn into_cached(self) -> Cached;
    fn of(cached: Cached) -> Option<Self>;
}

impl Partition for Arc<Index> {
    fn bytes(&self) -> usize {
        Index::bytes(self)
    }

    fn into_cached(self) -> Cached {
        Cached::Index(self)
    }

    fn of(cached: Cached) -> Option<Self> {
        if let Cached::Index(index) = cached { Some(index) } else { None }
    }
}

impl Partition for Filter {
    fn bytes(&self) -> usize {
        Self::bytes(self)
    }

    fn into_cached(self) -> Cached {
        Cached::Filter(self)
    }

    fn of(cached: Cached) -> Option<Self> {
        if let Cached::Filter(filter) = cached { Some(filter) } else { None }
    }
}

#[derive(Clone)]
struct Weight;

impl Weighter<(u64, u64), Cached> for Weight {
    fn weight(&self, _key: &(u64, u64), cached: &Cached) -> u64 {
        cached.weight()
    }
}

/// Hashes a place. Without a seed of its own, so that two runs that ask for the same places find
/// and miss the same ones: nobody chooses file numbers and offsets to our harm. Folded products, as
/// in wyhash (Wang, 2019).
#[derive(Clone, Copy, Debug, Default)]
struct PlaceHasher(u64);

/// Odd, with bits that look random: digits of the golden ratio and of pi.
const FOLDS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0x2436_3f84_a088_5a33];

impl Hasher for PlaceHasher {
    fn write_u64(&mut self, part: u64) {
        let (low, high) = (self.0 ^ FOLDS[1] ^ part).carrying_mul(FOLDS[0], 0);
        self.0 = low ^ high;
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(size_of::<u64>()) {
            let mut part = [0; size_of::<u64>()];
            part[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(part));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type Places = BuildHasherDefault<PlaceHasher>;

pub(crate) struct BlockCache {
    blocks: Cache<(u64, u64), Cached, Weight, Places>,
    bound: u64,
    pinned: Mutex<u64>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// Figures of the block cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Bytes of blocks, and of values of blob files.
    pub bytes: u64,
    /// Bytes of indexes, filters and dictionaries, which stay.
    pub pinned: u64,
    /// Bytes that both may have together. More is pinned only where tables are too many for it.
    pub capacity: u64,
    /// Blocks and values found in it.
    pub hits: u64,
    /// Blocks and values read from a file.
    pub misses: u64,
}

impl BlockCache {
    pub(crate) fn new(bytes: u64) -> Self {
        let items = usize::try_from(bytes / USUAL_BLOCK).unwrap_or(usize::MAX).max(16);
        Self {
            blocks: Cache::with(
                items,
                bytes,
                Weight,
                Places::default(),
                DefaultLifecycle::default(),
            ),
            bound: bytes,
            pinned: Mutex::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    fn find(&self, file: u64, offset: u64) -> Option<Cached> {
        let found = self.blocks.get(&(file, offset));
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    pub(crate) fn get(&self, table: u64, offset: u64) -> Option<Block> {
        self.find(table, offset).and_then(block)
    }

    /// As [`BlockCache::get`], without a trace: for those who read everything once.
    pub(crate) fn peek(&self, table: u64, offset: u64) -> Option<Block> {
        self.blocks.peek(&(table, offset)).and_then(block)
    }

    pub(crate) fn insert(&self, table: u64, offset: u64, block: Block) {
        self.blocks.insert((table, offset), Cached::Block(block));
    }

    /// Whether a block would push nothing out.
    pub(crate) fn has_room(&self, block: &Block) -> bool {
        self.has_room_for(block.bytes() as u64)
    }

    fn has_room_for(&self, bytes: u64) -> bool {
        self.blocks.weight().saturating_add(bytes + OVERHEAD) <= self.blocks.capacity()
    }

    /// A value of a blob file.
    pub(crate) fn get_value(&self, file: u64, offset: u64) -> Option<CachedValue> {
        self.find(file, offset).and_then(value)
    }

    /// As [`BlockCache::get_value`], without a trace.
    pub(crate) fn peek_value(&self, file: u64, offset: u64) -> Option<CachedValue> {
        self.blocks.peek(&(file, offset)).and_then(value)
    }

    /// Keeps a value if it is not too large; `gently`: and if it pushes nothing out.
    pub(crate) fn insert_value(&self, file: u64, offset: u64, value: CachedValue, gently: bool) {
        let held = u64::from(value.held);
        let most = self.blocks.shard_capacity() / VALUE_SHARE;
        if held + OVERHEAD <= most && (!gently || self.has_room_for(held)) {
            self.blocks.insert((file, offset), Cached::Value(value));
        }
    }

    /// A partition of a table's index or filter; `trace`: as [`BlockCache::get`], otherwise as
    /// [`BlockCache::peek`].
    pub(crate) fn partition<P: Partition>(
        &self,
        table: u64,
        offset: u64,
        trace: bool,
    ) -> Option<P> {
        let peek = || self.blocks.peek(&(table, offset));
        let found = if trace { self.find(table, offset) } else { peek() };
        found.and_then(P::of)
    }

    pub(crate) fn insert_partition<P: Partition>(&self, table: u64, offset: u64, partition: P) {
        self.blocks.insert((table, offset), partition.into_cached());
    }

    /// Takes room from the blocks until what is returned is dropped.
    pub(crate) fn pin(self: &Arc<Self>, bytes: u64) -> Pinned {
        self.change_pinned(|pinned| Some(pinned + bytes));
        Pinned { cache: self.clone(), bytes: AtomicU64::new(bytes) }
    }

    /// Whether `change` had a new number.
    fn change_pinned(&self, change: impl FnOnce(u64) -> Option<u64>) -> bool {
        // Held meanwhile: the last change has the last word.
        let mut pinned = self.pinned.lock();
        let Some(changed) = change(*pinned) else { return false };
        *pinned = changed;
        let least = self.bound / LEAST_SHARE;
        self.blocks.set_capacity(self.bound.saturating_sub(changed).max(least));
        true
    }

    pub(crate) fn stats(&self) -> CacheStats {
        CacheStats {
            bytes: self.blocks.weight(),
            pinned: *self.pinned.lock(),
            capacity: self.bound,
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
        }
    }
}

impl std::fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.stats().fmt(f)
    }
}

fn block(cached: Cached) -> Option<Block> {
    if let Cached::Block(block) = cached { Some(block) } else { None }
}

fn value(cached: Cached) -> Option<CachedValue> {
    if let Cached::Value(value) = cached { Some(value) } else { None }
}

/// Bytes that an open table keeps in memory.
pub(crate) struct Pinned {
    cache: Arc<BlockCache>,
    bytes: AtomicU64,
}

impl Pinned {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// As many more, if there is room for what need not stay.
    pub(crate) fn grow(&self, bytes: u64) -> bool {
        let most = self.cache.bound / STAYING_SHARE;
        let within = |pinned: u64| pinned.checked_add(bytes).filter(|sum| *sum <= most);
        let grown = self.cache.change_pinned(within);
        if grown {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        grown
    }

    /// As many fewer, of those that [`Pinned::grow`] granted.
    pub(crate) fn shrink(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.cache.change_pinned(|pinned| Some(pinned - bytes));
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let bytes = self.bytes();
        self.cache.change_pinned(|pinned| Some(pinned - bytes));
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;

    #[test]
    fn neighbours_are_spread_and_always_in_the_same_way() {
        let hash = |place: (u64, u64)| Places::default().hash_one(place);
        assert_eq!(hash((7, 4096)), 0x49a1_2977_bf60_097a);
        // As chance would, or better: of 4096 places in as many buckets, by their first bits and by
        // their last ones, 37 % of the buckets stay empty.
        let mut used = [vec![false; 4096], vec![false; 4096]];
        for place in 0..4096u64 {
            let hash = hash((1 + place % 8, place / 8 * 4096));
            let bits = [hash >> 52, hash & 4095];
            for (used, bits) in used.iter_mut().zip(bits) {
                used[usize::try_from(bits).unwrap()] = true;
            }
        }
        for used in used {
            let used = used.iter().filter(|used| **used).count();
            assert!(used > 2480, "{used}");
        }
    }

    #[test]
    fn what_is_pinned_takes_room_from_the_blocks() {
        let cache = Arc::new(BlockCache::new(1 << 20));
        let room = || cache.blocks.capacity();
        let (first, second) = (cache.pin(1 << 18), cache.pin(1 << 18));
        assert_eq!((room(), cache.stats().pinned, first.bytes()), (1 << 19, 1 << 19, 1 << 18));
        let most = cache.pin(1 << 30);
        assert_eq!(room(), 1 << 17);
        drop((first, most));
        assert_eq!(room(), 3 << 18);
        drop(second);
        assert_eq!((room(), cache.stats().pinned, cache.stats().capacity), (1 << 20, 0, 1 << 20));
    }

    #[test]
    fn what_need_not_stay_stays_while_a_quarter_is_enough() {
        let cache = Arc::new(BlockCache::new(1 << 20));
        let (one, other) = (cache.pin(1 << 16), cache.pin(0));
        assert!(other.grow(3 << 15) && other.grow(3 << 15));
        assert!(!other.grow(1) && !one.grow(1) && !one.grow(u64::MAX));
        assert_eq!((one.bytes(), other.bytes(), cache.stats().pinned), (1 << 16, 3 << 16, 1 << 18));
        other.shrink(3 << 15);
        assert!(one.grow(3 << 15) && !other.grow(1));
        drop(one);
        assert_eq!((cache.stats().pinned, other.bytes()), (3 << 15, 3 << 15));
        drop(other);
        assert_eq!((cache.blocks.capacity(), cache.stats().pinned), (1 << 20, 0));
    }
}
