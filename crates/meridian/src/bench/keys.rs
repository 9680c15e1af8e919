//! Which key is next, and whether it is read or written.

use meridian_workload::{HotIds, scramble};
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

/// One client's requests.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    random: SmallRng,
    keys: u64,
    gets: u8,
    hot: Option<HotIds>,
}

impl Requests {
    /// `hot` is computed once for all clients.
    pub(super) fn new(args: &BenchArgs, client: u64, hot: Option<HotIds>) -> Self {
        let random = SmallRng::seed_from_u64(args.seed ^ scramble(client));
        Self { random, keys: args.keys, gets: args.gets, hot }
    }

    pub(super) fn next(&mut self) -> Op {
        let key = match &self.hot {
            Some(hot) => hot.next(&mut self.random),
            None => self.random.random_range(0..self.keys),
        };
        match self.random.random_range(0..100) < self.gets {
            true => Op::Get(key),
            false => Op::Put(key),
        }
    }
}

/// The law as arguments choose it (they were checked): YCSB's, over as many ranks as keys.
pub(super) fn hot(args: &BenchArgs) -> Option<HotIds> {
    let hot = || HotIds::new(args.keys, args.theta).ok();
    (args.distribution == Distribution::Zipf).then(hot).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_length() {
        assert_eq!(name(0).len(), KEY_BYTES);
        assert_eq!(name(999_999_999).len(), KEY_BYTES);
    }
}
