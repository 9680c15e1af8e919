//! A data block: sorted entries, each key cut to what differs from the one before, and every
//! [`RESTART`]th key whole, so that a search can begin there.
//!
//! Entry: shared key bytes, other key bytes, value bytes, seqno and kind (`seqno << 2 | kind`), all
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
use crate::key::{MAX_SEQNO, Seqno, ValueKind, compare, kind_of, pack, seqno_of};

/// Entries between two whole keys.
const RESTART: usize = 16;

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
    tag: u64,
    value: Range<usize>,
    end: usize,
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
        let mut decoder = Decoder::new(rest);
        let shared = decoder.varint_len()?;
        let unshared = decoder.varint_len()?;
        let value_len = decoder.varint_len()?;
        let packed = decoder.varint()?;
        let delta = decoder.take(unshared)?;
        let start = self.entries_end - decoder.remaining();
        decoder.take(value_len)?;
        let seqno = packed >> 2;
        let kind = ValueKind::from_u8(packed.to_le_bytes()[0] & 3).ok_or(Malformed)?;
        if seqno > MAX_SEQNO {
            return Err(Malformed);
        }
        let tag = pack(seqno, kind);
        Ok(Entry { shared, delta, tag, value: start..start + value_len, end: start + value_len })
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
            if compare((entry.delta, entry.tag), (key, tag)) == Ordering::Less {
                low = middle;
            } else {
                high = middle;
            }
        }
        self.restart(low)
    }

    /// Hands the versions of `key` from `tag` on to `visit`, newest first.
    ///
    /// Keys are not put together: how much of the target the entry before matched is enough to
    /// place the next one.
    pub(crate) fn visit(
        &self,
        key: &[u8],
        tag: u64,
        visit: &mut impl FnMut(Seqno, ValueKind, Bytes) -> ControlFlow<()>,
    ) -> Result<Visited, Malformed> {
        let mut at = self.restart_before(key, tag)?;
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
            match entry.delta[common..].cmp(&rest[common..]) {
                Ordering::Less => {}
                Ordering::Greater => return Ok(Visited::Past),
                Ordering::Equal if entry.tag > tag => {}
                Ordering::Equal => {
                    let value = self.slice(entry.value);
                    if visit(seqno_of(entry.tag), kind_of(entry.tag), value).is_break() {
                        return Ok(Visited::Enough);
                    }
                }
            }
        }
        Ok(Visited::EndOfBlock)
    }
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
