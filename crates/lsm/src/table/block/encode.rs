//! Building a block.

use super::{RESTART, common_prefix};
use crate::coding::put_varint;
use crate::key::{is_apart, kind_of, seqno_of};

/// Entries in ascending order become a block.
#[derive(Debug, Default)]
pub(crate) struct BlockBuilder {
    data: Vec<u8>,
    restarts: Vec<u32>,
    entries: usize,
    last_key: Vec<u8>,
}

impl BlockBuilder {
    pub(crate) fn add(&mut self, key: &[u8], tag: u64, value: &[u8]) {
        let shared = if self.entries.is_multiple_of(RESTART) {
            let offset = u32::try_from(self.data.len()).expect("a block is far below 4 GiB");
            self.restarts.push(offset);
            0
        } else {
            common_prefix(&self.last_key, key)
        };
        put_varint(&mut self.data, shared as u64);
        put_varint(&mut self.data, (key.len() - shared) as u64);
        put_varint(&mut self.data, value.len() as u64);
        let kind = if is_apart(tag) { 0 } else { kind_of(tag) as u64 };
        put_varint(&mut self.data, seqno_of(tag) << 2 | kind);
        self.data.extend_from_slice(&key[shared..]);
        self.data.extend_from_slice(value);
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(&key[shared..]);
        self.entries += 1;
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.entries == 0
    }

    pub(crate) fn last_key(&self) -> &[u8] {
        &self.last_key
    }

    /// Its size if it were finished now.
    pub(crate) const fn bytes(&self) -> usize {
        self.data.len() + 4 * self.restarts.len() + 4
    }

    /// The raw block, valid until [`BlockBuilder::clear`].
    pub(crate) fn finish(&mut self) -> &[u8] {
        for restart in &self.restarts {
            self.data.extend_from_slice(&restart.to_le_bytes());
        }
        let count = u32::try_from(self.restarts.len()).expect("fewer than bytes");
        self.data.extend_from_slice(&count.to_le_bytes());
        &self.data
    }

    pub(crate) fn clear(&mut self) {
        self.data.clear();
        self.restarts.clear();
        self.last_key.clear();
        self.entries = 0;
    }
}
