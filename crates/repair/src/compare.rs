//! Finding out what differs: one digest over all vnodes that two replicas share, then one each.

use meridian_types::VnodeId;
use xxhash_rust::xxh3::Xxh3;

/// The digest over the clock digests of vnodes, in their order: what
/// [`crate::message::RepairRequest::Compare`] carries. Both replicas must list the same vnodes, so
/// the ids are part of it.
///
/// Replicas send it to each other, so it is as fixed as a format.
#[must_use]
pub fn combined_digest(clocks: impl IntoIterator<Item = (VnodeId, u128)>) -> u128 {
    let mut hasher = Xxh3::new();
    for (vnode, digest) in clocks {
        let mut item = [0; 20];
        item[..4].copy_from_slice(&vnode.0.to_be_bytes());
        item[4..].copy_from_slice(&digest.to_be_bytes());
        hasher.update(&item);
    }
    hasher.digest128()
}

/// The vnodes that both list, in the order of their ids, with different digests. Vnodes that only
/// one side lists are not shared (or one side has another layout), and are left out.
#[must_use]
pub fn differing(mine: &[(VnodeId, u128)], theirs: &[(VnodeId, u128)]) -> Vec<VnodeId> {
    let mut differing = Vec::new();
    let mut theirs = theirs.iter().peekable();
    for &(vnode, digest) in mine {
        while theirs.next_if(|(other, _)| *other < vnode).is_some() {}
        if theirs.next_if(|&&(other, there)| other == vnode && there != digest).is_some() {
            differing.push(vnode);
        }
    }
    differing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(items: &[(u32, u128)]) -> Vec<(VnodeId, u128)> {
        items.iter().map(|&(vnode, digest)| (VnodeId(vnode), digest)).collect()
    }

    #[test]
    fn finds_what_both_have_and_have_differently() {
        let mine = list(&[(1, 10), (2, 20), (4, 40), (7, 70)]);
        let theirs = list(&[(0, 1), (1, 11), (2, 20), (3, 3), (7, 71), (9, 9)]);
        assert_eq!(differing(&mine, &theirs), [VnodeId(1), VnodeId(7)]);
        assert_eq!(differing(&theirs, &mine), [VnodeId(1), VnodeId(7)]);
        assert_eq!(differing(&mine, &mine), []);
        assert_eq!(differing(&mine, &[]), []);
    }

    #[test]
    fn the_combined_digest_depends_on_every_vnode_digest_and_order() {
        let digest = |items: &[(u32, u128)]| combined_digest(list(items));
        let base = digest(&[(1, 10), (2, 20)]);
        assert_eq!(base, digest(&[(1, 10), (2, 20)]));
        for other in [
            digest(&[(1, 10)]),
            digest(&[(1, 10), (2, 21)]),
            digest(&[(1, 10), (3, 20)]),
            digest(&[]),
        ] {
            assert_ne!(base, other);
        }
        assert_ne!(base, digest(&[(2, 20), (1, 10)]));
    }

    #[test]
    fn the_combined_digest_is_fixed() {
        assert_eq!(combined_digest(list(&[(1, 2), (3, 4)])), GOLDEN);
    }

    const GOLDEN: u128 = 0xd80e_5f26_0872_7b82_6ac4_6ba0_c914_d5e1;
}
