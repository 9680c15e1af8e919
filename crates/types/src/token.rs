//! Where a key lies on the ring.

use std::fmt;
use std::str::FromStr;

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use crate::{crc16, murmur3};

/// A position on the ring: 0 to 2^128 - 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u128);

impl Token {
    /// The top 64 bits: how rows are ordered on disk.
    #[must_use]
    pub fn high(self) -> u64 {
        (self.0 >> 64) as u64
    }

    /// The Redis Cluster slot of a token that [`Partitioner::SlotMurmur3`] made.
    #[must_use]
    pub fn slot(self) -> u16 {
        (self.0 >> 114) as u16
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// How keys become tokens. Fixed when a cluster is created: every row's place depends on it.
///
/// Stored: do not renumber.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Partitioner {
    /// The top 14 bits are the key's Redis Cluster slot (of its `{tag}`, where it has one), the
    /// rest is Murmur3. Vnode boundaries then fall on slots, so that Redis Cluster clients can be
    /// shown the owners of each.
    #[default]
    SlotMurmur3 = 1,
    /// Murmur3 x64-128 of the whole key.
    Murmur3 = 2,
    /// MD5 of the whole key.
    Md5 = 3,
}

impl Partitioner {
    /// The key's token.
    ///
    /// ```
    /// use meridian_types::Partitioner;
    /// let token = Partitioner::SlotMurmur3.token(b"foo");
    /// assert_eq!(token.slot(), 12182); // as CLUSTER KEYSLOT foo says
    /// ```
    #[must_use]
    pub fn token(self, key: &[u8]) -> Token {
        match self {
            Self::SlotMurmur3 => {
                let slot = u128::from(crc16::slot(key));
                Token(slot << 114 | murmur3::x64_128(key) >> 14)
            }
            Self::Murmur3 => Token(murmur3::x64_128(key)),
            Self::Md5 => Token(u128::from_be_bytes(Md5::digest(key).into())),
        }
    }

    /// The partitioner's name in configuration files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SlotMurmur3 => "slot-murmur3",
            Self::Murmur3 => "murmur3",
            Self::Md5 => "md5",
        }
    }
}

impl fmt::Display for Partitioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no partitioner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no partitioner; use one of slot-murmur3, murmur3, md5")]
pub struct ParsePartitionerError(pub String);

impl FromStr for Partitioner {
    type Err = ParsePartitionerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::SlotMurmur3, Self::Murmur3, Self::Md5]
            .into_iter()
            .find(|p| p.name() == text)
            .ok_or_else(|| ParsePartitionerError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_bits_are_the_redis_slot() {
        // Slots as redis-server 7 answers CLUSTER KEYSLOT.
        for (key, slot) in [("foo", 12182), ("bar", 5061), ("{user1000}.following", 3443)] {
            assert_eq!(Partitioner::SlotMurmur3.token(key.as_bytes()).slot(), slot, "{key}");
        }
    }

    #[test]
    fn md5_is_the_digest_as_a_number() {
        assert_eq!(Partitioner::Md5.token(b"abc").to_string(), "900150983cd24fb0d6963f7d28e17f72");
    }

    #[test]
    fn names_read_back() {
        for p in [Partitioner::SlotMurmur3, Partitioner::Murmur3, Partitioner::Md5] {
            assert_eq!(p.name().parse(), Ok(p));
        }
        assert!("random".parse::<Partitioner>().is_err());
    }
}
