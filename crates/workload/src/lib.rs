//! Which key is next: choices of keys as benchmarks make them. The engine's benchmark and the one
//! of a cluster choose by the same law, so that their figures can be compared.
//!
//! Knows: ids, Zipf's law, how to spread ids over a range. Must not know: what a key looks like, who
//! is asked for it, engines, doors.
//!
//! INVARIANT: the same seed gives the same choices.

#![deny(missing_docs)]

use rand::rngs::SmallRng;
use rand_distr::{Distribution, Zipf};

/// The skew that YCSB uses (Cooper et al. 2010, "Benchmarking cloud serving systems with YCSB").
pub const YCSB_THETA: f64 = 0.99;

/// A one-to-one scramble of 64 bits: different ids never meet. The finalizer of SplitMix64 (Steele,
/// Lea and Flood 2014).
#[must_use]
pub const fn scramble(id: u64) -> u64 {
    let id = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let id = (id ^ (id >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    id ^ (id >> 31)
}

/// There is no such law. Nothing was chosen.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("Zipf's law needs an id at least and a skew that is not negative, not {ids} and {theta}")]
pub struct NoSuchLaw {
    /// How many ids.
    pub ids: u64,
    /// The skew.
    pub theta: f64,
}

/// Ids from 0 on of which a few are asked for most: by Zipf's law, the frequent ones scattered over
/// the range.
#[derive(Clone, Copy, Debug)]
pub struct HotIds {
    ids: u64,
    ranks: Zipf<f64>,
}

impl HotIds {
    /// Over so many ids, with this skew: 0 is none, [`YCSB_THETA`] the usual one.
    ///
    /// # Errors
    /// [`NoSuchLaw`] without an id, and with a skew below 0.
    pub fn new(ids: u64, theta: f64) -> Result<Self, NoSuchLaw> {
        let ranks = Zipf::new(ids as f64, theta);
        let ranks = ranks.map_err(|_cause| NoSuchLaw { ids, theta })?;
        Ok(Self { ids, ranks })
    }

    /// How many ids are asked for more often than the one chosen.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "ranks are whole numbers from 1 to the number of ids"
    )]
    pub fn rank(&self, random: &mut SmallRng) -> u64 {
        self.ranks.sample(random) as u64 - 1
    }

    /// The next id.
    pub fn next(&self, random: &mut SmallRng) -> u64 {
        scramble(self.rank(random)) % self.ids
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn ranks_have_the_frequencies_that_the_law_says() {
        let law = HotIds::new(1_000, YCSB_THETA).unwrap();
        let mut random = SmallRng::seed_from_u64(7);
        let draws = 200_000u32;
        let mut counts = vec![0u32; 1_000];
        for _ in 0..draws {
            counts[usize::try_from(law.rank(&mut random)).unwrap()] += 1;
        }
        let zeta: f64 = (1..=1_000u32).map(|i| f64::from(i).powf(-0.99)).sum();
        for rank in [0u32, 1, 9] {
            let expected = f64::from(draws) * f64::from(rank + 1).powf(-0.99) / zeta;
            let count = f64::from(counts[rank as usize]);
            assert!((count / expected - 1.0).abs() < 0.1, "{rank}: {count} of {expected}");
        }
    }

    #[test]
    fn a_few_ids_are_asked_for_most_and_lie_apart() {
        let (law, mut random) =
            (HotIds::new(1000, YCSB_THETA).unwrap(), SmallRng::seed_from_u64(1));
        let mut counts: Vec<(u32, u32)> = (0..1000).map(|id| (0, id)).collect();
        for _ in 0..100_000 {
            counts[usize::try_from(law.next(&mut random)).unwrap()].0 += 1;
        }
        counts.sort_unstable();
        // 1 / zeta(1000, 0.99) is about 0.13.
        assert!((11_000..16_000).contains(&counts[999].0), "{:?}", counts[999]);
        assert!(counts[998].0 > counts[990].0 && counts[990].0 > counts[500].0);
        assert!(counts[999].1.abs_diff(counts[998].1) > 1);
    }

    #[test]
    fn the_same_seed_chooses_the_same() {
        let law = HotIds::new(1 << 40, 0.5).unwrap();
        let choose = |seed| {
            let mut random = SmallRng::seed_from_u64(seed);
            (0..20).map(|_| law.next(&mut random)).collect::<Vec<_>>()
        };
        assert_eq!(choose(3), choose(3));
        assert_ne!(choose(3), choose(4));
        assert_eq!(HotIds::new(0, 0.5).unwrap_err(), NoSuchLaw { ids: 0, theta: 0.5 });
        HotIds::new(1, -1.0).unwrap_err();
    }
}
