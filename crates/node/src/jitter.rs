//! Randomness from a seed, so that nodes that start together do not act together.

/// SplitMix64 (Steele, Lea, Flood, 2014): good enough to spread timers.
#[derive(Clone, Debug)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from three quarters of `middle` to five quarters of it.
    pub(crate) fn around(&mut self, middle: u64) -> u64 {
        let spread = middle / 2;
        middle - spread / 2 + self.below(spread + 1)
    }

    /// A number from 0 to `bound`, excluded.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // The bias is far below what a timer can show.
        z % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_around_the_middle_and_repeats_with_the_seed() {
        let (mut a, mut b) = (Jitter::new(7), Jitter::new(7));
        for _ in 0..1_000 {
            let value = a.around(1_000);
            assert!((750..=1_250).contains(&value), "{value}");
            assert_eq!(value, b.around(1_000));
        }
        assert_eq!(a.around(0), 0);
        assert_eq!(a.around(1), 1);
    }
}
