//! The ring and its vnodes: equal slices, a power of two of them, so that a token's vnode is its
//! top bits.
//!
//! The number of vnodes is chosen when a cluster is created and does not follow the number of
//! nodes: every clock, stream and backup is kept per vnode.
//!
//! # Redis Cluster slots
//!
//! With [`Partitioner::SlotMurmur3`](meridian_types::Partitioner) the top 14 bits of a token are the
//! key's slot. Up to 16,384 vnodes, a vnode is a run of whole slots, and one key slot has exactly
//! one list of replicas. Above that (65 nodes and more at 256 vnodes a node) the slots still fall on
//! vnode boundaries, but a slot is cut into several vnodes, which may have different replicas: what
//! a Redis Cluster client is shown for a slot is then one of its owners, and a request may need one
//! hop more. Nothing else depends on slots.

use std::fmt;
use std::ops::RangeInclusive;

use meridian_types::{Token, VnodeId};

/// How many vnodes the ring is cut into: a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VnodeCount {
    /// The base-2 logarithm of the count.
    bits: u32,
}

/// A number of vnodes that no ring can have. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{count} is no number of vnodes; it must be a power of two from 1 to {}", VnodeCount::MAX)]
pub struct VnodeCountError {
    /// The number asked for.
    pub count: u64,
}

impl VnodeCount {
    /// Vnodes per node of a new cluster, unless its shape says otherwise.
    pub const DEFAULT_PER_NODE: u32 = 256;

    /// The most vnodes of a cluster. A clock, a lock and a list of replicas are kept for each of
    /// them on every node; this many are enough for 4,096 nodes at the default.
    pub const MAX: u32 = 1 << 20;

    /// Exactly this many vnodes.
    ///
    /// # Errors
    /// The count is not a power of two, or above [`Self::MAX`].
    pub fn new(count: u32) -> Result<Self, VnodeCountError> {
        if !count.is_power_of_two() || count > Self::MAX {
            return Err(VnodeCountError { count: u64::from(count) });
        }
        Ok(Self { bits: count.trailing_zeros() })
    }

    /// The count for a new cluster: `per_node` for each node, rounded up to a power of two.
    ///
    /// # Errors
    /// The rounded count is above [`Self::MAX`], or there are no nodes, or no vnodes for them.
    pub fn for_nodes(nodes: usize, per_node: u32) -> Result<Self, VnodeCountError> {
        let count = u64::try_from(nodes).unwrap_or(u64::MAX).saturating_mul(u64::from(per_node));
        match count.checked_next_power_of_two().map(u32::try_from) {
            Some(Ok(rounded)) if count > 0 => Self::new(rounded),
            _ => Err(VnodeCountError { count }),
        }
    }

    /// The count as a number.
    #[must_use]
    pub const fn get(self) -> u32 {
        1 << self.bits
    }

    /// The vnode that a token lies in.
    #[inline]
    #[must_use]
    pub fn vnode_of(self, token: Token) -> VnodeId {
        // At most 20 bits are left after the shift. A shift by all 128 bits is none at all, hence
        // in two steps.
        let top = token.0 >> 1 >> (127 - self.bits);
        VnodeId(u32::try_from(top).unwrap_or(u32::MAX))
    }

    /// The tokens of a vnode, both ends included; `None` for an id beyond the last vnode.
    #[must_use]
    pub fn token_range(self, vnode: VnodeId) -> Option<RangeInclusive<Token>> {
        if !self.contains(vnode) {
            return None;
        }
        let width_minus_one = u128::MAX >> self.bits;
        let first = if self.bits == 0 { 0 } else { u128::from(vnode.0) << (128 - self.bits) };
        Some(Token(first)..=Token(first | width_minus_one))
    }

    /// Whether there is a vnode of this id.
    #[must_use]
    pub const fn contains(self, vnode: VnodeId) -> bool {
        vnode.0 < self.get()
    }

    /// All vnodes, in the order of their tokens.
    pub fn vnodes(self) -> impl DoubleEndedIterator<Item = VnodeId> + ExactSizeIterator {
        (0..self.get()).map(VnodeId)
    }
}

impl fmt::Display for VnodeCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use meridian_types::Partitioner;
    use meridian_types::crc16::SLOTS;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counts_are_rounded_up_to_a_power_of_two() {
        let count = |nodes, per_node| VnodeCount::for_nodes(nodes, per_node).map(VnodeCount::get);
        assert_eq!(count(1, 256), Ok(256));
        assert_eq!(count(9, 256), Ok(4_096));
        assert_eq!(count(100, 256), Ok(32_768));
        assert_eq!(count(4_096, 256), Ok(VnodeCount::MAX));
        assert_eq!(count(4_097, 256), Err(VnodeCountError { count: 1 << 21 }));
        assert_eq!(count(0, 256), Err(VnodeCountError { count: 0 }));
        assert_eq!(count(9, 0), Err(VnodeCountError { count: 0 }));
        assert!(count(usize::MAX, u32::MAX).is_err());
    }

    #[test]
    fn only_powers_of_two_within_the_bound_are_counts() {
        for bad in [0, 3, 255, VnodeCount::MAX + 1, VnodeCount::MAX * 2, u32::MAX] {
            assert_eq!(VnodeCount::new(bad), Err(VnodeCountError { count: u64::from(bad) }));
        }
        for bits in 0..=20 {
            assert_eq!(VnodeCount::new(1 << bits).map(VnodeCount::get), Ok(1 << bits));
        }
    }

    #[test]
    fn the_vnodes_cover_the_ring_without_gap_or_overlap() {
        for bits in [0, 1, 8, 14, 15] {
            let count = VnodeCount::new(1 << bits).unwrap();
            let mut next = Some(0);
            for vnode in count.vnodes() {
                let range = count.token_range(vnode).unwrap();
                assert_eq!(Some(range.start().0), next);
                assert_eq!(count.vnode_of(*range.start()), vnode);
                assert_eq!(count.vnode_of(*range.end()), vnode);
                next = range.end().0.checked_add(1);
            }
            assert_eq!(next, None);
            assert_eq!(count.token_range(VnodeId(count.get())), None);
        }
    }

    proptest! {
        #[test]
        fn a_token_lies_in_the_range_of_its_vnode(token: u128, bits in 0u32..=20) {
            let count = VnodeCount::new(1 << bits).unwrap();
            let vnode = count.vnode_of(Token(token));
            prop_assert!(count.token_range(vnode).unwrap().contains(&Token(token)));
        }

        #[test]
        fn vnodes_are_runs_of_whole_slots(key: Vec<u8>, bits in 0u32..=14) {
            let count = VnodeCount::new(1 << bits).unwrap();
            let token = Partitioner::SlotMurmur3.token(&key);
            let slots_each = u32::from(SLOTS) / count.get();
            prop_assert_eq!(count.vnode_of(token).0, u32::from(token.slot()) / slots_each);
        }
    }
}
