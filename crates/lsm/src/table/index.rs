//! The sparse index: for each data block a key at or behind its last one and before the next
//! block's first, and where it is. Held in memory, whole.

use bytes::Bytes;

use super::format::Handle;
use crate::coding::{Decoder, Malformed, put_bytes, put_varint};

#[derive(Clone, Copy, Debug)]
struct IndexEntry {
    key_at: u32,
    key_len: u32,
    handle: Handle,
}

#[derive(Debug)]
pub(crate) struct Index {
    data: Bytes,
    entries: Vec<IndexEntry>,
}

pub(crate) fn encode_entry(out: &mut Vec<u8>, separator: &[u8], handle: Handle) {
    put_bytes(out, separator);
    put_varint(out, handle.offset);
    put_varint(out, u64::from(handle.len));
}

impl Index {
    pub(crate) fn parse(data: Bytes) -> Result<Self, Malformed> {
        let mut decoder = Decoder::new(&data);
        let mut entries = Vec::new();
        while !decoder.is_empty() {
            let key = decoder.bytes()?;
            let key_at = data.len() - decoder.remaining() - key.len();
            let handle = Handle { offset: decoder.varint()?, len: decoder.varint_u32()? };
            entries.push(IndexEntry {
                key_at: u32::try_from(key_at).map_err(|_cause| Malformed)?,
                key_len: u32::try_from(key.len()).map_err(|_cause| Malformed)?,
                handle,
            });
        }
        if entries.is_empty() {
            return Err(Malformed);
        }
        Ok(Self { data, entries })
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.data.len() + self.entries.len() * size_of::<IndexEntry>()
    }

    pub(crate) fn separator(&self, at: usize) -> &[u8] {
        let entry = &self.entries[at];
        let start = entry.key_at as usize;
        &self.data[start..start + entry.key_len as usize]
    }

    pub(crate) fn handle(&self, at: usize) -> Option<Handle> {
        self.entries.get(at).map(|entry| entry.handle)
    }

    /// The first block that may hold `key` or something behind it; `len()` if there is none.
    pub(crate) fn find(&self, key: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.entries.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.separator(middle) < key { low = middle + 1 } else { high = middle }
        }
        low
    }
}

/// A short key at or behind `last` and before `next`; equal to `last` if there is no shorter one.
pub(crate) fn separator(last: &[u8], next: &[u8]) -> Vec<u8> {
    let common = last.iter().zip(next).take_while(|(a, b)| a == b).count();
    match (last.get(common), next.get(common)) {
        (Some(&a), Some(&b)) if a + 1 < b && common + 1 < last.len() => {
            let mut short = last[..=common].to_vec();
            short[common] = a + 1;
            short
        }
        _ => last.to_vec(),
    }
}
