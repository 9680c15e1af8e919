//! A stretch of a file that was read at once, for the blocks that lie in it.

use std::path::Path;

use bytes::Bytes;
use meridian_vfs::{File, read_exact_at};

use super::format::Handle;

#[derive(Debug)]
pub(super) struct Stretch {
    /// Where in the file `bytes` begin.
    start: u64,
    bytes: Bytes,
}

impl Stretch {
    /// Of nothing.
    pub(super) const fn new() -> Self {
        Self { start: 0, bytes: Bytes::new() }
    }

    /// Reads `len` bytes from `start` on, in place of what is there. Says whether it could: if not,
    /// what is there stays.
    pub(super) fn read(&mut self, file: &dyn File, path: &Path, start: u64, len: usize) -> bool {
        let mut bytes = vec![0; len];
        let read = read_exact_at(file, path, start, &mut bytes).is_ok();
        if read {
            *self = Self { start, bytes: Bytes::from(bytes) };
        }
        read
    }

    /// The stored bytes of a block, if all of it is there.
    pub(super) fn get(&self, handle: Handle) -> Option<Bytes> {
        let from = usize::try_from(handle.offset.checked_sub(self.start)?).ok()?;
        let to = from.checked_add(handle.len as usize)?;
        (to <= self.bytes.len()).then(|| self.bytes.slice(from..to))
    }

    #[cfg(test)]
    pub(super) const fn bytes(&self) -> usize {
        self.bytes.len()
    }
}
