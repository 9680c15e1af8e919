//! The block cache: raw blocks by table and offset, bounded in bytes, shared by all trees. Sharded
//! and scan-resistant (S3-FIFO): a block has to be asked for twice to push out what is hot.

use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::block::Block;

/// What an entry costs beside its bytes: key, handle and the cache's own table.
const OVERHEAD: u64 = 96;
/// Expected bytes of a block: sizes the cache's table, no more.
const USUAL_BLOCK: u64 = 8 << 10;

#[derive(Clone)]
struct Bytes;

impl Weighter<(u64, u64), Block> for Bytes {
    fn weight(&self, _key: &(u64, u64), block: &Block) -> u64 {
        block.bytes() as u64 + OVERHEAD
    }
}

pub(crate) struct BlockCache {
    blocks: Cache<(u64, u64), Block, Bytes>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// Figures of the block cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Bytes held.
    pub bytes: u64,
    /// Bytes it may hold.
    pub capacity: u64,
    /// Blocks found in it.
    pub hits: u64,
    /// Blocks read from a file.
    pub misses: u64,
}

impl BlockCache {
    pub(crate) fn new(bytes: u64) -> Self {
        let items = usize::try_from(bytes / USUAL_BLOCK).unwrap_or(usize::MAX).max(16);
        Self {
            blocks: Cache::with_weighter(items, bytes, Bytes),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    pub(crate) fn get(&self, table: u64, offset: u64) -> Option<Block> {
        let found = self.blocks.get(&(table, offset));
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// As [`BlockCache::get`], without a trace: for those who read everything once.
    pub(crate) fn peek(&self, table: u64, offset: u64) -> Option<Block> {
        self.blocks.peek(&(table, offset))
    }

    pub(crate) fn insert(&self, table: u64, offset: u64, block: Block) {
        self.blocks.insert((table, offset), block);
    }

    /// Whether a block would push nothing out.
    pub(crate) fn has_room(&self, block: &Block) -> bool {
        let weight = block.bytes() as u64 + OVERHEAD;
        self.blocks.weight().saturating_add(weight) <= self.blocks.capacity()
    }

    pub(crate) fn stats(&self) -> CacheStats {
        CacheStats {
            bytes: self.blocks.weight(),
            capacity: self.blocks.capacity(),
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
