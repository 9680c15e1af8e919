//! How one version of a key is named and ordered.
//!
//! INVARIANT: versions sort by user key ascending, then by tag descending, so that the newest
//! comes first. Every structure of the engine (skip list, block, merge) uses this order.

use std::cmp::Ordering;

/// The number of a single operation; the order of all writes of a [`crate::Db`]. 0 is "before
/// everything".
pub type Seqno = u64;

/// The largest number that fits beside a kind in a tag.
pub(crate) const MAX_SEQNO: Seqno = (1 << 56) - 1;

/// What an operation did. Stored: do not renumber.
///
/// The numbers matter for one thing: a value or tombstone that a reader computed from the merge
/// operands up to a seqno is put back under that same seqno, and has to sort before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ValueKind {
    /// An operand for the tree's merge operator.
    Merge = 1,
    /// A tombstone.
    Delete = 2,
    /// A value.
    Put = 3,
}

impl ValueKind {
    pub(crate) const fn from_u8(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Merge),
            2 => Some(Self::Delete),
            3 => Some(Self::Put),
            _ => None,
        }
    }
}

/// A seqno and a kind in one integer that orders like the pair.
pub(crate) const fn pack(seqno: Seqno, kind: ValueKind) -> u64 {
    (seqno << 8) | kind as u64
}

/// What stands in a tag for the kind of a value that lies in a blob file: the version holds a
/// reference. In everything else it is a [`ValueKind::Put`].
const APART: u64 = 4;

/// The tag of a value that lies in a blob file.
pub(crate) const fn pack_apart(seqno: Seqno) -> u64 {
    (seqno << 8) | APART
}

/// Whether what the version holds is a reference to its value.
pub(crate) const fn is_apart(tag: u64) -> bool {
    tag & 0xff == APART
}

/// The tag that sorts at or before every version visible at `seqno`.
pub(crate) const fn seek_tag(seqno: Seqno) -> u64 {
    (seqno << 8) | 0xff
}

/// The seqno of a tag.
pub(crate) const fn seqno_of(tag: u64) -> Seqno {
    tag >> 8
}

/// The kind of a tag, which was made by [`pack`] or [`pack_apart`].
pub(crate) const fn kind_of(tag: u64) -> ValueKind {
    match tag & 0xff {
        1 => ValueKind::Merge,
        2 => ValueKind::Delete,
        _ => ValueKind::Put,
    }
}

/// The order of versions.
#[inline]
pub(crate) fn compare(a: (&[u8], u64), b: (&[u8], u64)) -> Ordering {
    // Most keys differ in the first eight bytes: a comparison without a call.
    if let (Some(x), Some(y)) = (a.0.first_chunk::<8>(), b.0.first_chunk::<8>())
        && x != y
    {
        return u64::from_be_bytes(*x).cmp(&u64::from_be_bytes(*y));
    }
    a.0.cmp(b.0).then_with(|| b.1.cmp(&a.1))
}

/// Whether two keys are the same. Neighbours in a table differ in their last bytes, if anywhere.
#[inline]
pub(crate) fn is_same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match (a.last_chunk::<8>(), b.last_chunk::<8>()) {
        (Some(x), Some(y)) if x != y => false,
        _ => a == b,
    }
}

/// The first eight bytes of a key, zero-padded, as a number that orders like them. Equal numbers
/// say nothing: a key may end where another one has zeroes.
#[inline]
pub(crate) fn prefix_of(key: &[u8]) -> u64 {
    if let Some(head) = key.first_chunk::<8>() {
        return u64::from_be_bytes(*head);
    }
    let mut head = [0; 8];
    head[..key.len()].copy_from_slice(key);
    u64::from_be_bytes(head)
}

/// How many bytes two keys begin with in common.
#[inline]
pub(crate) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let mut common = 0;
    // Eight at a time: the first byte that differs is the lowest one of the difference.
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        let difference = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if difference != 0 {
            return common + difference.trailing_zeros() as usize / 8;
        }
        common += 8;
    }
    let rest = a[common..].iter().zip(&b[common..]);
    common + rest.take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn newest_first_and_values_before_operands() {
        let order = [
            (b"a".as_slice(), pack(9, ValueKind::Put)),
            (b"a", pack_apart(7)),
            (b"a", pack(7, ValueKind::Put)),
            (b"a", pack(7, ValueKind::Delete)),
            (b"a", pack(7, ValueKind::Merge)),
            (b"a", pack(2, ValueKind::Delete)),
            (b"aa", pack(9, ValueKind::Put)),
            (b"b", pack(1, ValueKind::Put)),
        ];
        for pair in order.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
        }
        assert!(seek_tag(7) > pack(7, ValueKind::Put) && seek_tag(7) < pack(8, ValueKind::Merge));
        assert_eq!(seqno_of(pack(MAX_SEQNO, ValueKind::Put)), MAX_SEQNO);
        assert_eq!(kind_of(pack(3, ValueKind::Delete)), ValueKind::Delete);
        assert!(is_apart(pack_apart(3)) && !is_apart(pack(3, ValueKind::Put)));
        assert_eq!((kind_of(pack_apart(3)), seqno_of(pack_apart(3))), (ValueKind::Put, 3));
    }

    proptest! {
        #[test]
        fn common_prefixes_end_at_the_first_difference(
            a in proptest::collection::vec(0..2u8, 0..40),
            b in proptest::collection::vec(0..2u8, 0..40),
        ) {
            let slow = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
            prop_assert_eq!(common_prefix(&a, &b), slow);
            prop_assert_eq!(common_prefix(&a, &a), a.len());
        }

        #[test]
        fn prefixes_order_like_keys(
            a in proptest::collection::vec(0..3u8, 0..12),
            b in proptest::collection::vec(0..3u8, 0..12),
        ) {
            let (first, second) = (prefix_of(&a), prefix_of(&b));
            prop_assert!(first == second || first.cmp(&second) == a.cmp(&b));
        }

        #[test]
        fn versions_order_as_their_keys_and_tags(
            keys in proptest::array::uniform2(proptest::collection::vec(0..2u8, 0..12)),
            tags in proptest::array::uniform2(0..3u64),
        ) {
            let [a, b] = &keys;
            let plain = a.cmp(b).then_with(|| tags[1].cmp(&tags[0]));
            prop_assert_eq!(compare((a, tags[0]), (b, tags[1])), plain);
            prop_assert_eq!(is_same(a, b), a == b);
        }
    }
}
