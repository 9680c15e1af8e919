//! Keys, values and choices, all from seeds: every engine sees the same.

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 16;

/// A key as text of 16 hexadecimal digits.
pub(crate) type Key = [u8; KEY_BYTES];

/// `splitmix64` (Steele, Lea, Flood 2014): small, and good enough to choose keys by.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let scaled = u128::from(self.next()) * u128::from(bound);
        u64::try_from(scaled >> 64).unwrap_or(0)
    }

    /// A number from 0 up to, and without, 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A bijection of 64-bit numbers: different ids never get the same key.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The key of an id; ids in order give keys in no order.
pub(crate) fn random_key(id: u64) -> Key {
    hex(mix(id.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

/// The key of an id; ids in order give keys in order.
pub(crate) fn sequential_key(id: u64) -> Key {
    hex(id)
}

/// The key of an id that is never written.
pub(crate) fn missing_key(id: u64) -> Key {
    random_key(id | 1 << 63)
}

fn hex(number: u64) -> Key {
    let mut key = [0; KEY_BYTES];
    for (at, digit) in key.iter_mut().enumerate() {
        let nibble = usize::try_from(number >> (60 - 4 * at) & 15).unwrap_or(0);
        *digit = b"0123456789abcdef"[nibble];
    }
    key
}

/// Values: slices of a pool of noise. Half of each value repeats itself, so that LZ4 takes about
/// half away; each begins with its key, so that a reader can tell whether it got the right one.
#[derive(Debug)]
pub(crate) struct Values {
    pool: Vec<u8>,
    value: Vec<u8>,
}

impl Values {
    pub(crate) fn new(bytes: usize) -> Self {
        let mut random = Random::new(7);
        let pool = (0..1 << 16).flat_map(|_| random.next().to_le_bytes()).collect();
        Self { pool, value: vec![b'.'; bytes.max(KEY_BYTES)] }
    }

    /// A value for `key`, another one for each `turn`.
    pub(crate) fn of(&mut self, key: &Key, turn: u64) -> &[u8] {
        let (head, rest) = self.value.split_at_mut(KEY_BYTES);
        head.copy_from_slice(key);
        let noise = (head.len() + rest.len()) / 2;
        let noise = noise.saturating_sub(KEY_BYTES).min(rest.len());
        let room = (self.pool.len() - noise) as u64;
        let at = usize::try_from(mix(turn) % room).unwrap_or(0);
        rest[..noise].copy_from_slice(&self.pool[at..at + noise]);
        &self.value
    }
}

/// Zipf's distribution over `0..n` with the exponent of YCSB (Gray et al. 1994; the most frequent
/// is 0).
#[derive(Clone, Debug)]
pub(crate) struct Zipf {
    n: u64,
    alpha: f64,
    zeta: f64,
    eta: f64,
}

const THETA: f64 = 0.99;

impl Zipf {
    pub(crate) fn new(n: u64) -> Self {
        let zeta_of = |n: u64| (1..=n).map(|i| 1.0 / (i as f64).powf(THETA)).sum::<f64>();
        let zeta = zeta_of(n);
        let eta = (1.0 - (2.0 / n as f64).powf(1.0 - THETA)) / (1.0 - zeta_of(2) / zeta);
        Self { n, alpha: 1.0 / (1.0 - THETA), zeta, eta }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank between 0 and n, cut down to a whole number"
    )]
    pub(crate) fn next(&self, random: &mut Random) -> u64 {
        let unit = random.unit();
        let scaled = unit * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5f64.powf(THETA) {
            return 1.min(self.n - 1);
        }
        let rank = self.n as f64 * (self.eta * unit - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.n - 1)
    }

    /// As [`Zipf::next`], with the frequent ones scattered over the range.
    pub(crate) fn scattered(&self, random: &mut Random) -> u64 {
        mix(self.next(random)) % self.n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipf_prefers_the_first() {
        let (zipf, mut random) = (Zipf::new(1000), Random::new(1));
        let mut counts = [0u32; 1000];
        for _ in 0..100_000 {
            counts[usize::try_from(zipf.next(&mut random)).unwrap()] += 1;
        }
        // 1 / zeta(1000, 0.99) is about 0.13.
        assert!((11_000..16_000).contains(&counts[0]), "{}", counts[0]);
        assert!(counts[0] > counts[1] && counts[1] > counts[10] && counts[10] > counts[500]);
    }

    #[test]
    fn keys_are_sorted_as_their_ids_or_not_at_all() {
        assert!((0..1000).all(|id| sequential_key(id) < sequential_key(id + 1)));
        let rising = (0..1000).filter(|id| random_key(*id) < random_key(*id + 1)).count();
        assert!((400..600).contains(&rising), "{rising}");
    }
}
