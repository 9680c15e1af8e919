//! Where memtables have their memory from: chunks, counted, and one of the largest kept ready.
//!
//! A fresh huge page costs its first writer a third of a millisecond, and several where the kernel
//! has to move other pages out of the way first; so a thread that nobody waits for takes that upon
//! itself ([`Supply::prepare_until_stopped`]). Without it a chunk is made when it is needed.

#![expect(unsafe_code, reason = "nodes of the skip list are laid out in raw chunks")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use crate::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use crate::sync::{Mutex, atomic_wait};

/// A huge page of the usual processors. Also how far a memtable may go beyond its bound.
pub(super) const LARGEST_CHUNK: usize = 2 << 20;
/// The smallest page of the usual processors.
const PAGE: usize = 4 << 10;
/// Alignment of everything handed out.
pub(super) const ALIGN: usize = 8;

/// States of [`Supply::asked`], in the order in which they override each other.
const QUIET: u32 = 0;
const ASKED: u32 = 1;
const STOPPING: u32 = 2;

/// A chunk's header; its memory lies behind `base`.
pub(super) struct Chunk {
    pub(super) base: NonNull<u8>,
    layout: Layout,
    /// Bytes asked for; beyond `layout.size()` once it is full.
    pub(super) used: AtomicUsize,
}

impl Chunk {
    fn new(size: usize) -> Box<Self> {
        let align = if size == LARGEST_CHUNK { LARGEST_CHUNK } else { ALIGN };
        let layout =
            Layout::from_size_align(size, align).expect("an entry is far below isize::MAX bytes");
        // SAFETY: `layout` has a size above zero (callers ask for at least one header).
        let base = unsafe { alloc(layout) };
        let Some(base) = NonNull::new(base) else { handle_alloc_error(layout) };
        if align == LARGEST_CHUNK {
            prefer_huge_pages(base, size);
        }
        Box::new(Self { base, layout, used: AtomicUsize::new(0) })
    }

    /// Writes to each page, so that the kernel finds memory for it now. A fault holds up nobody who
    /// maps other memory meanwhile; the advice to populate (`MADV_POPULATE_WRITE`) does.
    fn populate(&self) {
        for at in (0..self.bytes()).step_by(PAGE) {
            // SAFETY: within the allocation, and nobody else has the chunk yet.
            unsafe { self.base.add(at).write_volatile(0) };
        }
    }

    pub(super) const fn bytes(&self) -> usize {
        self.layout.size()
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

// SAFETY: a chunk is memory and a counter, and whoever has it may use both; what is in the memory
// is its arena's affair.
unsafe impl Send for Chunk {}

/// The chunks of all memtables of a database.
pub(crate) struct Supply {
    /// Bytes that memtables have; the spare one is nobody's.
    allocated: AtomicUsize,
    spare: Mutex<Option<Box<Chunk>>>,
    asked: AtomicU32,
}

impl Default for Supply {
    fn default() -> Self {
        Self {
            allocated: AtomicUsize::new(0),
            spare: Mutex::new(None),
            asked: AtomicU32::new(QUIET),
        }
    }
}

impl std::fmt::Debug for Supply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supply").field("allocated", &self.allocated()).finish_non_exhaustive()
    }
}

impl Supply {
    /// Bytes that memtables have taken.
    pub(crate) fn allocated(&self) -> usize {
        self.allocated.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self, size: usize) -> Box<Chunk> {
        let spare = if size == LARGEST_CHUNK { self.spare.lock().take() } else { None };
        let chunk = spare.unwrap_or_else(|| Chunk::new(size));
        self.allocated.fetch_add(chunk.bytes(), Ordering::Relaxed);
        chunk
    }

    /// Says that the next chunk will be one of the largest.
    pub(super) fn ask(&self) {
        if self.asked.fetch_max(ASKED, Ordering::Relaxed) == QUIET {
            atomic_wait::wake_all(&self.asked);
        }
    }

    pub(super) fn gone(&self, bytes: usize) {
        self.allocated.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Keeps a chunk ready, until [`Supply::stop`].
    pub(crate) fn prepare_until_stopped(&self) {
        loop {
            match self.asked.load(Ordering::Relaxed) {
                QUIET => atomic_wait::wait(&self.asked, QUIET),
                ASKED => {
                    let quiet = self.asked.compare_exchange(
                        ASKED,
                        QUIET,
                        Ordering::Relaxed,
                        Ordering::Relaxed,
                    );
                    if quiet.is_ok() {
                        self.prepare();
                    }
                }
                _ => return,
            }
        }
    }

    fn prepare(&self) {
        if self.spare.lock().is_some() {
            return;
        }
        let chunk = Chunk::new(LARGEST_CHUNK);
        chunk.populate();
        *self.spare.lock() = Some(chunk);
    }

    /// Ends [`Supply::prepare_until_stopped`].
    pub(crate) fn stop(&self) {
        self.asked.store(STOPPING, Ordering::Relaxed);
        atomic_wait::wake_all(&self.asked);
    }

    /// Before a new [`Supply::prepare_until_stopped`].
    pub(crate) fn start(&self) {
        self.asked.store(QUIET, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_that_was_asked_for_is_there_before_it_is_needed() {
        let supply = Supply::default();
        supply.ask();
        std::thread::scope(|scope| {
            let preparing = scope.spawn(|| supply.prepare_until_stopped());
            while supply.spare.lock().is_none() {
                std::thread::yield_now();
            }
            supply.stop();
            preparing.join().unwrap();
        });
        let spare = supply.spare.lock().as_ref().map(|chunk| chunk.base);
        assert_eq!(supply.allocated(), 0);
        assert_ne!(supply.take(4 << 10).base, spare.unwrap());
        let taken = supply.take(LARGEST_CHUNK);
        assert_eq!((Some(taken.base), taken.bytes()), (spare, LARGEST_CHUNK));
        assert_eq!(supply.allocated(), LARGEST_CHUNK + (4 << 10));
        assert_ne!(supply.take(LARGEST_CHUNK).base, taken.base);
    }
}
