//! Which key is next, and whether it is read or written.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution as _, Zipf};

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

/// One client's requests.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    random: SmallRng,
    keys: u64,
    gets: u8,
    zipf: Option<Zipf<f64>>,
}

impl Requests {
    /// `zipf` is computed once for all clients.
    pub(super) fn new(args: &BenchArgs, client: u64, zipf: Option<Zipf<f64>>) -> Self {
        let random = SmallRng::seed_from_u64(args.seed ^ spread(client));
        Self { random, keys: args.keys, gets: args.gets, zipf }
    }

    pub(super) fn next(&mut self) -> Op {
        let key = match &self.zipf {
            // Hot keys are spread over the ring, not neighbours.
            Some(zipf) => spread(rank(zipf, &mut self.random)) % self.keys,
            None => self.random.random_range(0..self.keys),
        };
        match self.random.random_range(0..100) < self.gets {
            true => Op::Get(key),
            false => Op::Put(key),
        }
    }
}

/// The law as arguments choose it (they were checked): YCSB's, over as many ranks as keys.
pub(super) fn zipf(args: &BenchArgs) -> Option<Zipf<f64>> {
    let zipf = || Zipf::new(args.keys as f64, args.theta).ok();
    (args.distribution == Distribution::Zipf).then(zipf).flatten()
}

/// A rank from 0 on.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the law's ranks are whole numbers from 1 on"
)]
fn rank(zipf: &Zipf<f64>, random: &mut SmallRng) -> u64 {
    zipf.sample(random) as u64 - 1
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
    fn ranks_have_the_frequencies_that_the_law_says() {
        let zipf = Zipf::new(1_000.0, 0.99).unwrap();
        let mut random = SmallRng::seed_from_u64(7);
        let draws = 200_000u32;
        let mut counts = vec![0u32; 1_000];
        for _ in 0..draws {
            counts[usize::try_from(rank(&zipf, &mut random)).unwrap()] += 1;
        }
        let zeta: f64 = (1..=1_000u32).map(|i| f64::from(i).powf(-0.99)).sum();
        for rank in [0u32, 1, 9] {
            let expected = f64::from(draws) * f64::from(rank + 1).powf(-0.99) / zeta;
            let count = f64::from(counts[rank as usize]);
            assert!((count / expected - 1.0).abs() < 0.1, "{rank}: {count} of {expected}");
        }
    }
}
