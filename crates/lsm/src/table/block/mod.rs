//! A data block: sorted entries, each key cut to what differs from the one before, and every
//! [`RESTART`]th key whole, so that a search can begin there.
//!
//! Entry: shared key bytes, other key bytes, value bytes, seqno and kind (`seqno << 2 | kind`; kind 0: the value is a reference into a blob file), all
//! varints; then the other key bytes and the value. Behind the entries the offset of each whole
//! key (4 bytes each), then their number (4 bytes).

mod cursor;
mod encode;

pub(crate) use cursor::BlockCursor;
pub(crate) use encode::BlockBuilder;

use std::cmp::Ordering;
use std::ops::{ControlFlow, Range};

use bytes::Bytes;

use crate::coding::{Decoder, Malformed};
use crate::key::{MAX_SEQNO, ValueKind, common_prefix, compare, pack, pack_apart};
use crate::prefetch::{prefetch, prefetch_all};

/// Entries between two whole keys.
const RESTART: usize = 16;

/// Most whole keys that are asked for at once: those of the usual block.
const PREFETCHED_RESTARTS: usize = 12;
/// Most bytes of entries that are asked for at once: small values between two whole keys.
const PREFETCHED_BYTES: usize = 2 << 10;

/// A raw block, ready to be searched. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    data: Bytes,
    /// Where the entries end and the restart array begins.
    entries_end: usize,
    restarts: usize,
}

/// An entry as it lies in the block.
#[derive(Debug)]
struct Entry<'a> {
    shared: usize,
    delta: &'a [u8],
    /// Seqno and kind as they are stored; not looked at in entries that a search passes over.
    packed: u64,
    value: Range<usize>,
    end: usize,
}

impl Entry<'_> {
    #[inline]
    fn tag(&self) -> Result<u64, Malformed> {
        let seqno = self.packed >> 2;
        if seqno > MAX_SEQNO {
            return Err(Malformed);
        }
        let kind = ValueKind::from_u8(self.packed.to_le_bytes()[0] & 3);
        Ok(kind.map_or_else(|| pack_apart(seqno), |kind| pack(seqno, kind)))
    }
}

/// The four numbers before an entry's key.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    shared: usize,
    unshared: usize,
    value_len: usize,
    packed: u64,
    /// Bytes that they take.
    len: usize,
}

impl Head {
    /// As [`Head::long`], for the usual lengths: two of one byte, one of at most two, and a number
    /// of at most eight, without a branch for each byte.
    #[inline]
    fn short(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<12>()?;
        let [shared, unshared, low, high, ..] = *bytes;
        if (shared | unshared) >= 0x80 || (low >= 0x80 && high >= 0x80) {
            return None;
        }
        let (value_len, at) = if low < 0x80 {
            (usize::from(low), 3)
        } else {
            (usize::from(low & 0x7f) | usize::from(high) << 7, 4)
        };
        let word = u64::from_le_bytes(*bytes[at..].first_chunk::<8>()?);
        let ends = !word & 0x8080_8080_8080_8080;
        if ends == 0 {
            return None;
        }
        // Everything up to the first byte without the top bit, its groups of seven bits pushed
        // together in pairs, in fours, in eights.
        let groups = word & (ends ^ (ends - 1)) & 0x7f7f_7f7f_7f7f_7f7f;
        let pairs = groups & 0x007f_007f_007f_007f | (groups & 0x7f00_7f00_7f00_7f00) >> 1;
        let fours = pairs & 0x0000_3fff_0000_3fff | (pairs & 0x3fff_0000_3fff_0000) >> 2;
        let packed = fours & 0x0fff_ffff | (fours & 0x0fff_ffff_0000_0000) >> 4;
        let len = at + ends.trailing_zeros() as usize / 8 + 1;
        let (shared, unshared) = (usize::from(shared), usize::from(unshared));
        Some(Self { shared, unshared, value_len, packed, len })
    }

    #[cold]
    fn long(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut decoder = Decoder::new(bytes);
        let shared = decoder.varint_len()?;
        let unshared = decoder.varint_len()?;
        let value_len = decoder.varint_len()?;
        let packed = decoder.varint()?;
        Ok(Self { shared, unshared, value_len, packed, len: bytes.len() - decoder.remaining() })
    }
}

/// Where a search for a key ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visited {
    /// The visitor has enough.
    Enough,
    /// A larger key follows: there are no further versions.
    Past,
    /// The block ended; further versions may be in the next one.
    EndOfBlock,
}

impl Block {
    pub(crate) fn parse(data: Bytes) -> Result<Self, Malformed> {
        let tail = data.len().checked_sub(4).ok_or(Malformed)?;
        let count = Decoder::new(&data[tail..]).u32()?;
        let restarts = usize::try_from(count).map_err(|_cause| Malformed)?;
        let array = restarts.checked_mul(4).ok_or(Malformed)?;
        let entries_end = tail.checked_sub(array).ok_or(Malformed)?;
        if restarts == 0 {
            return Err(Malformed);
        }
        Ok(Self { data, entries_end, restarts })
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.data.len()
    }

    fn slice(&self, range: Range<usize>) -> Bytes {
        self.data.slice(range)
    }

    fn restart(&self, at: usize) -> Result<usize, Malformed> {
        let start = self.entries_end + 4 * at;
        let offset = Decoder::new(&self.data[start..]).u32()?;
        let offset = usize::try_from(offset).map_err(|_cause| Malformed)?;
        if offset < self.entries_end { Ok(offset) } else { Err(Malformed) }
    }

    #[inline]
    fn entry(&self, at: usize) -> Result<Entry<'_>, Malformed> {
        let rest = self.data.get(at..self.entries_end).ok_or(Malformed)?;
        let head = match Head::short(rest) {
            Some(head) => head,
            None => Head::long(rest)?,
        };
        let value = head.len.checked_add(head.unshared).ok_or(Malformed)?;
        let end = value.checked_add(head.value_len).ok_or(Malformed)?;
        if end > rest.len() {
            return Err(Malformed);
        }
        let delta = rest.get(head.len..value).ok_or(Malformed)?;
        let value = at + value..at + end;
        Ok(Entry { shared: head.shared, delta, packed: head.packed, value, end: at + end })
    }

    /// Asks for all the whole keys that a search will compare, if they are few.
    #[inline]
    fn prefetch_restarts(&self) {
        if self.restarts <= PREFETCHED_RESTARTS {
            for at in 1..self.restarts {
                if let Ok(offset) = self.restart(at) {
                    prefetch(&raw const self.data[offset]);
                }
            }
        }
    }

    /// Asks for the entries from `start`, one of the restarts, up to the next one.
    #[inline]
    fn prefetch_entries(&self, start: usize) {
        let end =
            self.entries_end.min(start + PREFETCHED_BYTES.min(self.entries_end / self.restarts));
        prefetch_all(self.data.get(start..end).unwrap_or_default());
    }

    /// The last restart whose entry sorts before `(key, tag)`, or the first one.
    fn restart_before(&self, key: &[u8], tag: u64) -> Result<usize, Malformed> {
        let (mut low, mut high) = (0, self.restarts);
        while low + 1 < high {
            let middle = low.midpoint(high);
            let entry = self.entry(self.restart(middle)?)?;
            if entry.shared != 0 {
                return Err(Malformed);
            }
            if compare((entry.delta, entry.tag()?), (key, tag)) == Ordering::Less {
                low = middle;
            } else {
                high = middle;
            }
        }
        self.restart(low)
    }

    /// Hands the versions of `key` from `tag` on to `visit`, newest first: tags and what is stored.
    ///
    /// Keys are not put together: how much of the target the entry before matched is enough to
    /// place the next one.
    pub(crate) fn visit(
        &self,
        key: &[u8],
        tag: u64,
        visit: &mut impl FnMut(u64, Bytes) -> ControlFlow<()>,
    ) -> Result<Visited, Malformed> {
        self.prefetch_restarts();
        let mut at = self.restart_before(key, tag)?;
        self.prefetch_entries(at);
        let mut matched = 0;
        while at < self.entries_end {
            let entry = self.entry(at)?;
            at = entry.end;
            // Sharing more with the entry before than that shares with the target: still before.
            if entry.shared > matched {
                continue;
            }
            let rest = &key[entry.shared..];
            let common = common_prefix(entry.delta, rest);
            matched = entry.shared + common;
            match entry.delta.get(common).cmp(&rest.get(common)) {
                Ordering::Less => {}
                Ordering::Greater => return Ok(Visited::Past),
                Ordering::Equal => {
                    let found = entry.tag()?;
                    if found > tag {
                        continue;
                    }
                    let value = self.slice(entry.value);
                    if visit(found, value).is_break() {
                        return Ok(Visited::Enough);
                    }
                }
            }
        }
        Ok(Visited::EndOfBlock)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::coding::put_varint;

    proptest! {
        #[test]
        fn short_heads_are_read_as_long_ones(
            numbers in proptest::array::uniform3(prop_oneof![0..128usize, 0..40_000usize]),
            packed in any::<u64>(),
            shift in 0..64u32,
            rest: Vec<u8>,
        ) {
            let mut bytes = Vec::new();
            for number in numbers {
                put_varint(&mut bytes, number as u64);
            }
            put_varint(&mut bytes, packed >> shift);
            let len = bytes.len();
            bytes.extend(rest);
            let long = Head::long(&bytes).unwrap();
            prop_assert_eq!((long.shared, long.packed, long.len), (numbers[0], packed >> shift, len));
            if let Some(short) = Head::short(&bytes) {
                prop_assert_eq!(short, long);
            }
        }

        #[test]
        fn any_head_is_read_the_same_or_left_to_the_long_way(bytes: Vec<u8>) {
            if let Some(short) = Head::short(&bytes) {
                prop_assert_eq!(Ok(short), Head::long(&bytes));
            }
        }
    }
}
