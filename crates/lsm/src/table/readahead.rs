//! Reading ahead: a cursor that goes through a table block by block reads several of them at once,
//! the more the longer it goes on.
//!
//! A block that could not be read ahead is read again by itself when it is its turn: what a cursor
//! never gets to is no error.

use std::path::Path;

use bytes::Bytes;
use meridian_vfs::File;

use super::format::Handle;
use super::index::Index;
use super::stretch::Stretch;

/// Most bytes read at once: beyond it a disk gains nothing, and each source of a scan holds as many.
pub(crate) const READAHEAD_BYTES: usize = 256 << 10;
/// Blocks of the first read ahead.
const FIRST_BLOCKS: usize = 2;

/// What a cursor has read of what lies before it.
#[derive(Debug)]
pub(crate) struct Readahead {
    stretch: Stretch,
    /// Bytes of the last read ahead; 0: none.
    window: usize,
    /// Whether the first read is as large as any.
    eager: bool,
    /// The block that was entered last.
    last: Option<usize>,
}

impl Readahead {
    /// `eager`: for those who will read everything.
    pub(crate) const fn new(eager: bool) -> Self {
        Self { stretch: Stretch::new(), window: 0, eager, last: None }
    }

    #[cfg(test)]
    pub(crate) const fn bytes(&self) -> usize {
        self.stretch.bytes()
    }

    /// Whether it has gone so far that what it reads is not worth keeping.
    pub(crate) const fn is_long(&self) -> bool {
        self.window >= READAHEAD_BYTES
    }

    /// Notes that the block at `at` is entered; says whether it is the one behind the last.
    pub(crate) fn enter(&mut self, at: usize) -> bool {
        let last = self.last.replace(at);
        let goes_on = last.map_or(self.eager, |last| at == last + 1);
        // To stay in a block, or to come back to it, ends nothing.
        if !goes_on && last != Some(at) {
            self.window = 0;
        }
        goes_on
    }

    /// The stored bytes of a block that was read ahead.
    pub(crate) fn get(&self, handle: Handle) -> Option<Bytes> {
        self.stretch.get(handle)
    }

    /// Reads the block at `at` of the index and those behind it, as many as it is time for.
    pub(crate) fn read(&mut self, file: &dyn File, path: &Path, index: &Index, at: usize) {
        let Some(first) = index.handle(at) else { return };
        // One of them may be the larger.
        let least = FIRST_BLOCKS * first.len as usize + first.len as usize / 2;
        let grown = if self.eager { READAHEAD_BYTES } else { least.max(2 * self.window) };
        let window = grown.min(READAHEAD_BYTES);
        let mut len = first.len as usize;
        let mut next = at + 1;
        while let Some(handle) = index.handle(next)
            && handle.offset == first.offset + len as u64
            && len + handle.len as usize <= window
        {
            len += handle.len as usize;
            next += 1;
        }
        self.window = window;
        if next > at + 1 {
            // What could not be read is read when it is its turn.
            let _could = self.stretch.read(file, path, first.offset, len);
        }
    }
}
