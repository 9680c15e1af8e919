//! Keys, values and choices, all from seeds: every engine sees the same.

use meridian_workload::scramble;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 16;

/// A key as text of 16 hexadecimal digits.
pub(crate) type Key = [u8; KEY_BYTES];

/// The key of an id; ids in order give keys in no order.
pub(crate) fn random_key(id: u64) -> Key {
    hex(scramble(id.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
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

/// Values: slices of a pool of noise. The second half of each repeats the first, so that LZ4 takes
/// about half away (as `db_bench` of LevelDB and RocksDB makes them); each begins with its key, so
/// that a reader can tell whether it got the right one.
#[derive(Debug)]
pub(crate) struct Values {
    pool: Vec<u8>,
    value: Vec<u8>,
}

impl Values {
    pub(crate) fn new(bytes: usize) -> Self {
        let mut pool = vec![0; 8 << 16];
        SmallRng::seed_from_u64(7).fill_bytes(&mut pool);
        Self { pool, value: vec![b'.'; bytes.max(KEY_BYTES)] }
    }

    /// A value for `key`, another one for each `turn`.
    pub(crate) fn of(&mut self, key: &Key, turn: u64) -> &[u8] {
        let (head, rest) = self.value.split_at_mut(KEY_BYTES);
        head.copy_from_slice(key);
        let noise = (head.len() + rest.len()) / 2;
        let noise = noise.saturating_sub(KEY_BYTES).min(rest.len());
        let room = (self.pool.len() - noise) as u64;
        let at = usize::try_from(scramble(turn) % room).unwrap_or(0);
        let (once, again) = rest.split_at_mut(noise);
        once.copy_from_slice(&self.pool[at..at + noise]);
        for (at, byte) in again.iter_mut().enumerate().take_while(|_| noise > 0) {
            *byte = once[at % noise];
        }
        &self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_as_their_ids_or_not_at_all() {
        assert!((0..1000).all(|id| sequential_key(id) < sequential_key(id + 1)));
        let rising = (0..1000).filter(|id| random_key(*id) < random_key(*id + 1)).count();
        assert!((400..600).contains(&rising), "{rising}");
    }
}
