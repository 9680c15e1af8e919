//! A first layout, drawn to exact loads.
//!
//! Systematic sampling (Madow 1949): the nodes lie on a line, each as long as what it has still to
//! get, those of a rack side by side. The line is as long as `width` times the vnodes still to be
//! placed, so `width` points at that distance from each other, the first at random, name the
//! replicas of the next vnode. No node is named twice, for none is longer than the distance; one
//! that is exactly as long is always named, so the loads come out exactly; and a rack is named as
//! often as its length divided by the distance, rounded down or up, which is what the rack rule
//! asks. So one pass does it, and nothing is ever repaired.
//!
//! The line is shuffled for every vnode, so that each node shares vnodes with many others: when it
//! fails, they all take a part of its load.

use super::fair::{NodeIx, Site};

/// Draws a list for every vnode. `loads` is how many vnodes each node gets.
pub(super) fn draw(site: &Site, loads: &[u64], seed: u64) -> Vec<NodeIx> {
    let mut left = loads.to_vec();
    let mut racks: Vec<Vec<NodeIx>> =
        site.racks().iter().map(|rack| rack.members.clone()).collect();
    let mut rows = Vec::with_capacity(site.vnodes() * site.width());
    if site.width() == 0 {
        return rows;
    }
    let mut dice = Dice::new(seed);
    for distance in (1..=site.vnodes() as u64).rev() {
        dice.shuffle(&mut racks);
        let start = rows.len();
        let mut next_point = dice.below(distance);
        let mut end = 0;
        for rack in &mut racks {
            dice.shuffle(rack);
            for &node in rack.iter() {
                let left = &mut left[node as usize];
                end += *left;
                if next_point < end {
                    next_point += distance;
                    *left -= 1;
                    rows.push(node);
                }
            }
        }
        debug_assert_eq!(rows.len() - start, site.width(), "the loads fill the lists");
        dice.shuffle(&mut rows[start..]);
    }
    rows
}

/// Numbers without pattern, the same for the same seed (SplitMix64; Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        // The high half of the product, which needs no division.
        let product = u128::from(self.roll()) * u128::from(bound);
        u64::try_from(product >> 64).unwrap_or(0)
    }

    /// Puts items into an order without pattern.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = usize::try_from(self.below(last as u64 + 1)).unwrap_or(last);
            items.swap(last, other);
        }
    }
}
