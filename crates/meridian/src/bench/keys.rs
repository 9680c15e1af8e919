//! Which key is next, and whether it is read or written.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::args::{BenchArgs, Distribution};

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Get(u64),
    Put(u64),
}

/// Bytes of a key, so that every key has the same length.
pub(super) const KEY_BYTES: usize = 18;

/// A key's name.
pub(super) fn name(key: u64) -> String {
    format!("bench:{key:012}")
}

/// Zipf's law over ranks 0 to n - 1 (Gray et al., "Quickly Generating Billion-Record Synthetic
/// Databases", 1994, as YCSB has it).
#[derive(Clone, Copy, Debug)]
pub(super) struct Zipf {
    n: f64,
    theta: f64,
    alpha: f64,
    zeta_n: f64,
    eta: f64,
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "ranks are below 2^53, and the result is clamped to them"
)]
impl Zipf {
    pub(super) fn new(n: u64, theta: f64) -> Self {
        let zeta = |n: u64| (1..=n).map(|i| (i as f64).powf(-theta)).sum::<f64>();
        let zeta_n = zeta(n);
        let n = n as f64;
        let eta = (1.0 - (2.0 / n).powf(1.0 - theta)) / (1.0 - zeta(2) / zeta_n);
        Self { n, theta, alpha: 1.0 / (1.0 - theta), zeta_n, eta }
    }

    /// The rank for a uniform number from 0 to 1.
    fn rank(&self, uniform: f64) -> u64 {
        let scaled = uniform * self.zeta_n;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5f64.powf(self.theta) {
            return 1.min(self.n as u64 - 1);
        }
        let rank = self.n * (self.eta * uniform - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.n as u64 - 1)
    }
}

/// One client's requests.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    random: SmallRng,
    keys: u64,
    gets: u8,
    zipf: Option<Zipf>,
}

impl Requests {
    /// `zipf` is computed once for all clients.
    pub(super) fn new(args: &BenchArgs, client: u64, zipf: Option<Zipf>) -> Self {
        let random = SmallRng::seed_from_u64(args.seed ^ spread(client));
        Self { random, keys: args.keys, gets: args.gets, zipf }
    }

    pub(super) fn next(&mut self) -> Op {
        let key = match &self.zipf {
            // Hot keys are spread over the ring, not neighbours.
            Some(zipf) => spread(zipf.rank(self.random.random())) % self.keys,
            None => self.random.random_range(0..self.keys),
        };
        match self.random.random_range(0..100) < self.gets {
            true => Op::Get(key),
            false => Op::Put(key),
        }
    }
}

/// The distribution as arguments choose it.
pub(super) fn zipf(args: &BenchArgs) -> Option<Zipf> {
    (args.distribution == Distribution::Zipf).then(|| Zipf::new(args.keys, args.theta))
}

/// A one-to-one scramble of 64 bits (the finalizer of SplitMix64).
fn spread(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_length() {
        assert_eq!(name(0).len(), KEY_BYTES);
        assert_eq!(name(999_999_999).len(), KEY_BYTES);
    }

    #[test]
    fn zipf_has_the_frequencies_that_its_law_says() {
        let (n, theta) = (1_000u64, 0.99);
        let zipf = Zipf::new(n, theta);
        let mut random = SmallRng::seed_from_u64(7);
        let draws = 200_000u32;
        let mut counts = vec![0u32; 1_000];
        for _ in 0..draws {
            counts[usize::try_from(zipf.rank(random.random())).unwrap()] += 1;
        }
        let zeta: f64 = (1..=1_000u32).map(|i| f64::from(i).powf(-theta)).sum();
        // Ranks 0 and 1 are exact in the algorithm, the others approximate.
        for rank in [0u32, 1] {
            let expected = f64::from(draws) * f64::from(rank + 1).powf(-theta) / zeta;
            let count = f64::from(counts[rank as usize]);
            assert!((count / expected - 1.0).abs() < 0.05, "{rank}: {count} of {expected}");
        }
        let head: u32 = counts[..100].iter().sum();
        let expected: f64 = (1..=100u32).map(|i| f64::from(i).powf(-theta)).sum::<f64>() / zeta;
        assert!((f64::from(head) / f64::from(draws) - expected).abs() < 0.03, "{head}");
    }

    #[test]
    fn small_key_spaces_stay_inside() {
        for n in 1..5 {
            let zipf = Zipf::new(n, 0.5);
            for uniform in [0.0, 0.3, 0.9, 0.999_999_999] {
                assert!(zipf.rank(uniform) < n);
            }
        }
    }
}
