//! Memory that is only ever taken, from many threads, and given back all at once.
//!
//! Chunks begin small and double, so that a tree with three keys costs a few kilobytes and a full
//! memtable is a few dozen chunks. The largest ones are as large as, and aligned like, a huge page:
//! a search jumps all over a full memtable, and with small pages it waits for the page table as
//! often as for the nodes.

#![expect(unsafe_code, reason = "nodes of the skip list are laid out in raw chunks")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

const FIRST_CHUNK: usize = 4 << 10;
/// A huge page of the usual processors. Also how far a memtable may go beyond its bound.
const LARGEST_CHUNK: usize = 2 << 20;
/// Alignment of everything handed out.
pub(super) const ALIGN: usize = 8;

/// A chunk's header; its memory lies behind `base`.
struct Chunk {
    base: NonNull<u8>,
    layout: Layout,
    /// Bytes asked for; beyond `layout.size()` once it is full.
    used: AtomicUsize,
}

impl Chunk {
    fn new(size: usize, used: usize) -> Box<Self> {
        let align = if size == LARGEST_CHUNK { LARGEST_CHUNK } else { ALIGN };
        let layout =
            Layout::from_size_align(size, align).expect("an entry is far below isize::MAX bytes");
        // SAFETY: `layout` has a size above zero (callers ask for at least one header).
        let base = unsafe { alloc(layout) };
        let Some(base) = NonNull::new(base) else { handle_alloc_error(layout) };
        if align == LARGEST_CHUNK {
            prefer_huge_pages(base, size);
        }
        Box::new(Self { base, layout, used: AtomicUsize::new(used) })
    }
}

/// Advice: where the kernel has none to give, or not this one, everything works as before.
#[cfg(all(target_os = "linux", not(miri)))]
fn prefer_huge_pages(base: NonNull<u8>, bytes: usize) {
    use rustix::mm::{Advice, madvise};
    // SAFETY: the range is this chunk's own allocation, whole pages of it, and this advice changes
    // no contents.
    let _refused = unsafe { madvise(base.as_ptr().cast(), bytes, Advice::LinuxHugepage) };
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn prefer_huge_pages(_base: NonNull<u8>, _bytes: usize) {}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: `base` came from `alloc` with this layout and is freed only here.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

/// The arena. `total` counts the chunks of all arenas of a database.
pub(super) struct Arena {
    /// The chunk to take from; null until the first entry. Owned by `chunks`.
    current: AtomicPtr<Chunk>,
    #[expect(clippy::vec_box, reason = "`current` points to a chunk: it must not move")]
    chunks: Mutex<Vec<Box<Chunk>>>,
    allocated: AtomicUsize,
    total: Arc<AtomicUsize>,
}

// SAFETY: the raw pointers lead to chunks owned by `chunks`; memory is handed out once (atomic
// `used`) and freed only by `drop`, which has the arena exclusively.
unsafe impl Send for Arena {}
// SAFETY: as above; `alloc` takes `&self` and synchronises through `used` and the mutex.
unsafe impl Sync for Arena {}

impl Arena {
    pub(super) fn new(total: Arc<AtomicUsize>) -> Self {
        Self {
            current: AtomicPtr::new(ptr::null_mut()),
            chunks: Mutex::new(Vec::new()),
            allocated: AtomicUsize::new(0),
            total,
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
        if at.checked_add(size)? > chunk.layout.size() {
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
        let chunk = Chunk::new(if large { size } else { usual }, size);
        let base = chunk.base;
        let bytes = chunk.layout.size();
        self.allocated.fetch_add(bytes, Ordering::Relaxed);
        self.total.fetch_add(bytes, Ordering::Relaxed);
        chunks.push(chunk);
        // A large entry has a chunk of its own and leaves the current one in use.
        if !large && let Some(chunk) = chunks.last_mut() {
            self.current.store(&raw mut **chunk, Ordering::Release);
        }
        base
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        self.total.fetch_sub(self.allocated(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_empty_and_counts_what_it_takes() {
        let total = Arc::new(AtomicUsize::new(0));
        let arena = Arena::new(total.clone());
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
        assert_eq!(total.load(Ordering::Relaxed), arena.allocated());
        drop(arena);
        assert_eq!(total.load(Ordering::Relaxed), 0);
    }
}
