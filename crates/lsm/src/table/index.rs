//! The sparse index: for each data block a key at or behind its last one and before the next
//! block's first, and where it is. Held in memory, whole; in a large table in partitions, over which
//! there is an index of the same kind.
//!
//! A search compares numbers that lie side by side: of each separator the eight bytes behind what
//! all separators share. Only where they are equal are separators compared.

use std::cmp::Ordering;

use bytes::Bytes;

use super::format::Handle;
use crate::coding::{Decoder, Malformed, put_bytes, put_varint};
use crate::key::{common_prefix, prefix_of};

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
    /// How many bytes all separators begin with in common.
    shared: usize,
    /// The next eight of each, big endian, zero-padded.
    prefixes: Vec<u64>,
}

pub(crate) fn encode_entry(out: &mut Vec<u8>, separator: &[u8], handle: Handle) {
    put_bytes(out, separator);
    put_varint(out, handle.offset);
    put_varint(out, u64::from(handle.len));
}

impl Index {
    pub(crate) fn parse(data: Bytes) -> Result<Self, Malformed> {
        Self::parse_with(data, |_behind, _handle| Ok(()))
    }

    /// `each` decodes what is behind each entry, of which it is told where it leads.
    pub(crate) fn parse_with(
        data: Bytes,
        mut each: impl FnMut(&mut Decoder<'_>, Handle) -> Result<(), Malformed>,
    ) -> Result<Self, Malformed> {
        let mut decoder = Decoder::new(&data);
        let mut entries = Vec::new();
        while !decoder.is_empty() {
            let key = decoder.bytes()?;
            let key_at = data.len() - decoder.remaining() - key.len();
            let handle = Handle { offset: decoder.varint()?, len: decoder.varint_u32()? };
            each(&mut decoder, handle)?;
            entries.push(IndexEntry {
                key_at: u32::try_from(key_at).map_err(|_cause| Malformed)?,
                key_len: u32::try_from(key.len()).map_err(|_cause| Malformed)?,
                handle,
            });
        }
        if entries.is_empty() {
            return Err(Malformed);
        }
        let mut index = Self { data, entries, shared: 0, prefixes: Vec::new() };
        let (first, last) = (index.separator(0), index.separator(index.len() - 1));
        index.shared = common_prefix(first, last);
        let prefix = |at| prefix_behind(index.separator(at), index.shared);
        let prefixes: Vec<u64> = (0..index.len()).map(prefix).collect();
        // Separators ascend, so all between the first and the last share what those two share.
        if !prefixes.is_sorted() {
            return Err(Malformed);
        }
        index.prefixes = prefixes;
        Ok(index)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.data.len() + self.entries.len() * (size_of::<IndexEntry>() + size_of::<u64>())
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
        let head = &key[..self.shared.min(key.len())];
        match head.cmp(&self.separator(0)[..self.shared]) {
            Ordering::Less => return 0,
            Ordering::Greater => return self.len(),
            Ordering::Equal => {}
        }
        let prefix = prefix_behind(key, self.shared);
        let mut low = self.prefixes.partition_point(|other| *other < prefix);
        let equal = self.prefixes[low..].iter();
        let mut high = low + equal.take_while(|other| **other == prefix).count();
        while low < high {
            let middle = low.midpoint(high);
            if self.separator(middle) < key { low = middle + 1 } else { high = middle }
        }
        low
    }
}

fn prefix_behind(key: &[u8], at: usize) -> u64 {
    prefix_of(key.get(at..).unwrap_or_default())
}

/// A short key at or behind `last` and before `next`; equal to `last` if there is no shorter one.
pub(crate) fn separator(last: &[u8], next: &[u8]) -> Vec<u8> {
    let common = common_prefix(last, next);
    match (last.get(common), next.get(common)) {
        (Some(&a), Some(&b)) if a + 1 < b && common + 1 < last.len() => {
            let mut short = last[..=common].to_vec();
            short[common] = a + 1;
            short
        }
        _ => last.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_what_a_plain_search_finds(
            head in proptest::collection::vec(0..2u8, 0..10),
            tails in proptest::collection::vec(proptest::collection::vec(0..3u8, 0..12), 1..40),
            probe in proptest::collection::vec(0..3u8, 0..20),
        ) {
            let mut keys: Vec<Vec<u8>> =
                tails.into_iter().map(|tail| [head.as_slice(), &tail].concat()).collect();
            keys.sort();
            let mut data = Vec::new();
            for key in &keys {
                encode_entry(&mut data, key, Handle::default());
            }
            let index = Index::parse(Bytes::from(data)).unwrap();
            let behind = [head.as_slice(), &probe].concat();
            for key in keys.iter().chain([&probe, &behind]) {
                let plain = keys.partition_point(|other| other < key);
                prop_assert_eq!(index.find(key), plain, "{:?} in {:?}", key, keys);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, key: Vec<u8>) {
            if let Ok(index) = Index::parse(Bytes::from(bytes)) {
                prop_assert!(index.find(&key) <= index.len());
            }
        }
    }
}
