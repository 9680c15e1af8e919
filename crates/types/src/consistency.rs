//! Consistency levels: how many replicas must have answered, and where.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How many replicas a request waits for. Quorums are strict: a hint counts for [`Self::Any`] only.
///
/// Stored and sent: do not renumber.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ConsistencyLevel {
    /// One replica, or a durable hint on any node. Writes only.
    Any = 1,
    /// One replica, anywhere.
    One = 2,
    /// One replica of the local datacenter.
    LocalOne = 3,
    /// Two replicas, anywhere.
    Two = 4,
    /// Three replicas, anywhere.
    Three = 5,
    /// A majority of all replicas.
    Quorum = 6,
    /// A majority of the replicas in the coordinator's datacenter.
    #[default]
    LocalQuorum = 7,
    /// A majority in every datacenter.
    EachQuorum = 8,
    /// Every replica.
    All = 9,
    /// Compare-and-set through the register, over all datacenters.
    Serial = 10,
    /// Compare-and-set through the register of the local datacenter.
    LocalSerial = 11,
}

impl ConsistencyLevel {
    /// All levels, in the order of their numbers.
    pub const EVERY: [Self; 11] = [
        Self::Any,
        Self::One,
        Self::LocalOne,
        Self::Two,
        Self::Three,
        Self::Quorum,
        Self::LocalQuorum,
        Self::EachQuorum,
        Self::All,
        Self::Serial,
        Self::LocalSerial,
    ];

    /// The level's name, as every door writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "ANY",
            Self::One => "ONE",
            Self::LocalOne => "LOCAL_ONE",
            Self::Two => "TWO",
            Self::Three => "THREE",
            Self::Quorum => "QUORUM",
            Self::LocalQuorum => "LOCAL_QUORUM",
            Self::EachQuorum => "EACH_QUORUM",
            Self::All => "ALL",
            Self::Serial => "SERIAL",
            Self::LocalSerial => "LOCAL_SERIAL",
        }
    }

    /// The level with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::EVERY.into_iter().find(|level| *level as u8 == number)
    }
}

impl fmt::Display for ConsistencyLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no level. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no consistency level; use one of ANY, ONE, LOCAL_ONE, TWO, THREE, QUORUM, \
     LOCAL_QUORUM, EACH_QUORUM, ALL, SERIAL, LOCAL_SERIAL"
)]
pub struct ParseConsistencyLevelError(pub String);

impl FromStr for ConsistencyLevel {
    type Err = ParseConsistencyLevelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::EVERY
            .into_iter()
            .find(|level| level.name().eq_ignore_ascii_case(&text.replace('-', "_")))
            .ok_or_else(|| ParseConsistencyLevelError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_reads_back_from_its_name_and_number() {
        for level in ConsistencyLevel::EVERY {
            assert_eq!(level.name().parse(), Ok(level));
            assert_eq!(level.name().to_lowercase().replace('_', "-").parse(), Ok(level));
            assert_eq!(ConsistencyLevel::from_number(level as u8), Some(level));
        }
        assert!(
            "SOME".parse::<ConsistencyLevel>().unwrap_err().to_string().contains("EACH_QUORUM")
        );
        assert_eq!(ConsistencyLevel::from_number(0), None);
    }
}
