//! Chance, from a seed.
//!
//! Every purpose has a stream of its own, made from the seed and the purpose's name alone, so that
//! one draw more for one purpose shifts no draw of another: a history without its third fault is
//! otherwise the same history until that fault would have happened.
//!
//! How bits become numbers is written out here and not left to `rand`'s distributions, whose
//! values may change between its releases: a seed that found something keeps its meaning.

use std::fmt;

use meridian_types::NodeId;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What chance is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Which faults happen, and when.
    Faults,
    /// Delays and losses on links.
    Network,
    /// Which task runs next.
    Tasks,
    /// What one client does.
    Client(u32),
    /// What one node asks of its host.
    Node(NodeId),
    /// How long one disk takes, and what a power cut leaves on it.
    Disk(NodeId),
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Faults => f.write_str("faults"),
            Self::Network => f.write_str("network"),
            Self::Tasks => f.write_str("tasks"),
            Self::Client(number) => write!(f, "client {number}"),
            Self::Node(node) => write!(f, "node {node}"),
            Self::Disk(node) => write!(f, "disk {node}"),
        }
    }
}

/// The chance of one run, by purpose.
#[derive(Clone, Copy, Debug)]
pub struct Streams {
    seed: u64,
}

impl Streams {
    /// All that happens by chance in the run of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// A purpose's stream, from its beginning.
    #[must_use]
    pub fn draw(&self, purpose: Purpose) -> Draw {
        let label = purpose.to_string();
        let seed = xxh3_64_with_seed(label.as_bytes(), self.seed);
        let mut key = [0; 32];
        for (part, word) in key.chunks_exact_mut(8).zip(0u64..) {
            let word = xxh3_64_with_seed(&word.to_le_bytes(), seed ^ self.seed.rotate_left(32));
            part.copy_from_slice(&word.to_le_bytes());
        }
        Draw { random: ChaCha8Rng::from_seed(key) }
    }
}

/// A stream of chance.
#[derive(Clone, Debug)]
pub struct Draw {
    random: ChaCha8Rng,
}

impl Draw {
    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.random.next_u64()
    }

    /// A number below `bound`, each as likely as the others; 0 where there is none below it.
    ///
    /// Source: Lemire, "Fast Random Integer Generation in an Interval" (2019).
    pub fn below(&mut self, bound: u64) -> u64 {
        let (mut low, mut high) = self.bits().carrying_mul(bound, 0);
        if low < bound {
            let unfair = bound.wrapping_neg() % bound;
            while low < unfair {
                (low, high) = self.bits().carrying_mul(bound, 0);
            }
        }
        high
    }

    /// An index below `bound`; 0 where there is none below it.
    pub fn index(&mut self, bound: usize) -> usize {
        // No longer than `bound`, which is a `usize`.
        usize::try_from(self.below(bound as u64)).unwrap_or(0)
    }

    /// A number from `least` to `most`, both included; `least` where they are the wrong way round.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        match most.saturating_sub(least).checked_add(1) {
            Some(bound) => least + self.below(bound),
            None => self.bits(),
        }
    }

    /// True `ppm` times of a million. Draws nothing where the answer is certain.
    pub fn chance(&mut self, ppm: u32) -> bool {
        ppm > 0 && (ppm >= 1_000_000 || self.below(1_000_000) < u64::from(ppm))
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.index(of.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(seed: u64, purpose: Purpose) -> u64 {
        Streams::new(seed).draw(purpose).bits()
    }

    #[test]
    fn a_purpose_has_its_own_stream_and_always_the_same() {
        let purposes = [
            Purpose::Faults,
            Purpose::Network,
            Purpose::Tasks,
            Purpose::Client(1),
            Purpose::Client(2),
            Purpose::Node(NodeId(1)),
            Purpose::Disk(NodeId(1)),
        ];
        for (at, &a) in purposes.iter().enumerate() {
            assert_eq!(first(7, a), first(7, a));
            assert_ne!(first(7, a), first(8, a), "{a}");
            for &b in &purposes[at + 1..] {
                assert_ne!(first(7, a), first(7, b), "{a} and {b}");
            }
        }
    }

    #[test]
    fn numbers_stay_within_their_bounds() {
        let mut draw = Streams::new(1).draw(Purpose::Faults);
        let mut seen = [0_u32; 5];
        for _ in 0..5_000 {
            seen[draw.index(5)] += 1;
            assert!((3..=4).contains(&draw.between(3, 4)));
        }
        assert!(seen.iter().all(|n| (850..1_150).contains(n)), "{seen:?}");
        assert_eq!(draw.below(0), 0);
        assert_eq!(draw.below(1), 0);
        assert_eq!(draw.between(9, 3), 9);
        assert!(draw.pick::<u8>(&[]).is_none());
        draw.between(0, u64::MAX);
        assert!(draw.below(u64::MAX) < u64::MAX);
    }

    #[test]
    fn a_chance_is_what_it_says() {
        let mut draw = Streams::new(2).draw(Purpose::Network);
        let hits = (0..100_000).filter(|_| draw.chance(50_000)).count();
        assert!((4_000..6_000).contains(&hits), "{hits}");
        let before = draw.clone().bits();
        assert!(!draw.chance(0) && draw.chance(1_000_000));
        assert_eq!(draw.bits(), before, "what is certain draws nothing");
    }
}
