//! Memory that is only ever taken, from many threads, and given back all at once.
//!
//! Chunks begin small and double, so that a tree with three keys costs a few kilobytes and a full
//! memtable is a few dozen chunks. The largest ones are as large as, and aligned like, a huge page:
//! a search jumps all over a full memtable, and with small pages it waits for the page table as
//! often as for the nodes.

#![expect(unsafe_code, reason = "nodes of the skip list are laid out in raw chunks")]

use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::supply::{ALIGN, Chunk, LARGEST_CHUNK, Supply};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

const FIRST_CHUNK: usize = 4 << 10;

/// The arena; `supply` is where its chunks come from.
pub(super) struct Arena {
    /// The chunk to take from; null until the first entry. Owned by `chunks`.
    current: AtomicPtr<Chunk>,
    #[expect(clippy::vec_box, reason = "`current` points to a chunk: it must not move")]
    chunks: Mutex<Vec<Box<Chunk>>>,
    allocated: AtomicUsize,
    supply: Arc<Supply>,
}

// SAFETY: the raw pointers lead to chunks owned by `chunks`; memory is handed out once (atomic
// `used`) and freed only by `drop`, which has the arena exclusively.
unsafe impl Send for Arena {}
// SAFETY: as above; `alloc` takes `&self` and synchronises through `used` and the mutex.
unsafe impl Sync for Arena {}

impl Arena {
    pub(super) fn new(supply: Arc<Supply>) -> Self {
        Self {
            current: AtomicPtr::new(ptr::null_mut()),
            chunks: Mutex::new(Vec::new()),
            allocated: AtomicUsize::new(0),
            supply,
        }
    }

    /// Bytes taken from the allocator.
    pub(super) fn allocated(&self) -> usize {
        self.allocated.load(Ordering::Relaxed)
    }

    /// `size` uninitialised bytes, aligned to [`ALIGN`], valid until the arena is dropped.
    pub(super) fn alloc(&self, size: usize) -> NonNull<u8> {
        let size = size.next_multiple_of(ALIGN);
        let current = self.current.load(Ordering::Acquire);
        if let Some(found) = Self::take(current, size) { found } else { self.grow(size) }
    }

    fn take(chunk: *mut Chunk, size: usize) -> Option<NonNull<u8>> {
        // SAFETY: a chunk that was ever `current` lives as long as the arena.
        let chunk = unsafe { chunk.as_ref()? };
        // Relaxed: only the numbers must be unique; the chunk was acquired by the caller.
        let at = chunk.used.fetch_add(size, Ordering::Relaxed);
        if at.checked_add(size)? > chunk.bytes() {
            return None;
        }
        // SAFETY: `at + size` is within the chunk's allocation.
        Some(unsafe { chunk.base.add(at) })
    }

    #[cold]
    fn grow(&self, size: usize) -> NonNull<u8> {
        let mut chunks = self.chunks.lock();
        // Somebody else may have grown it meanwhile.
        if let Some(found) = Self::take(self.current.load(Ordering::Acquire), size) {
            return found;
        }
        let usual = (FIRST_CHUNK << chunks.len().min(16)).min(LARGEST_CHUNK);
        let large = size > usual / 4;
        let chunk = self.supply.take(if large { size } else { usual });
        // Nobody else has it yet.
        chunk.used.store(size, Ordering::Relaxed);
        let base = chunk.base;
        self.allocated.fetch_add(chunk.bytes(), Ordering::Relaxed);
        chunks.push(chunk);
        if 2 * usual >= LARGEST_CHUNK {
            self.supply.ask();
        }
        // A large entry has a chunk of its own and leaves the current one in use.
        if !large && let Some(chunk) = chunks.last_mut() {
            self.current.store(&raw mut **chunk, Ordering::Release);
        }
        base
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        self.supply.gone(self.allocated());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_empty_and_counts_what_it_takes() {
        let supply = Arc::new(Supply::default());
        let arena = Arena::new(supply.clone());
        assert_eq!(arena.allocated(), 0);
        arena.alloc(10);
        assert_eq!(arena.allocated(), FIRST_CHUNK);
        arena.alloc(3 << 20);
        assert_eq!(arena.allocated(), FIRST_CHUNK + (3 << 20));
        let mut last = arena.alloc(1).as_ptr().addr();
        for _ in 0..10_000 {
            let next = arena.alloc(17).as_ptr().addr();
            assert_eq!(next % ALIGN, 0);
            assert!(next.abs_diff(last) >= 8);
            last = next;
        }
        assert_eq!(supply.allocated(), arena.allocated());
        drop(arena);
        assert_eq!(supply.allocated(), 0);
    }
}
