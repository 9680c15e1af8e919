//! What clients do.

use std::collections::BTreeMap;

use meridian_types::ConsistencyLevel;
use serde::{Deserialize, Serialize};

use super::MAX_CLIENTS;
use crate::sim::Micros;

/// What the clients of a world do until its time is over. Each has a stream of chance of its own, so
/// that fewer clients do what they did before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// How many clients, spread over the datacenters.
    pub clients: u32,
    /// How many keys each table has. Few: histories are interesting where clients meet.
    pub keys: u32,
    /// How long a client waits between two operations, on average.
    pub pause: Micros,
    /// How many operations are begun in a second, all clients together, whether or not those before
    /// them are answered: an open loop. Nothing said: each client waits for its answer and pauses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// How long an operation may take.
    pub deadline: Micros,
    /// Of a hundred operations that failed, how many are tried again, with the same write id.
    #[serde(default)]
    pub retry_percent: u32,
    /// Of a hundred operations, after how many the client goes to another node.
    #[serde(default)]
    pub hop_percent: u32,
    /// How many of the clients, the first ones, keep sessions.
    #[serde(default)]
    pub sessions: u32,
    /// How long values live that are put with an expiry.
    #[serde(default = "default_ttl")]
    pub ttl: Micros,
    /// How many bytes values have at least; the unique part comes first.
    #[serde(default = "default_value_bytes")]
    pub value_bytes: u32,
    /// How many items a batch has.
    #[serde(default = "default_batch")]
    pub batch: u32,
    /// Which operations, by weight.
    pub mix: BTreeMap<OpKind, u32>,
    /// Levels of reads, by weight.
    #[serde(default = "default_levels")]
    pub reads: BTreeMap<ConsistencyLevel, u32>,
    /// Levels of writes, by weight.
    #[serde(default = "default_levels")]
    pub writes: BTreeMap<ConsistencyLevel, u32>,
}

/// A kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OpKind {
    /// Reads a key.
    Get,
    /// Puts a key, knowing nothing of what is there.
    Put,
    /// Puts a key with the context of the client's last read of it, reading first where it has none.
    PutSeen,
    /// As `put`, with an expiry.
    PutExpiring,
    /// Deletes a key, knowing nothing of what is there.
    Delete,
    /// Deletes a key with the context of the client's last read of it, reading first where it has
    /// none.
    DeleteSeen,
    /// Reads all keys of a table, page by page.
    Scan,
    /// Puts several keys in one request; each succeeds or fails alone.
    PutMany,
    /// Puts several keys in one atomic batch.
    PutAtomic,
    /// Reads several keys in one request.
    GetMany,
}

impl OpKind {
    /// Whether the operation changes something.
    #[must_use]
    pub fn writes(self) -> bool {
        match self {
            Self::Get | Self::Scan | Self::GetMany => false,
            Self::Put
            | Self::PutSeen
            | Self::PutExpiring
            | Self::Delete
            | Self::DeleteSeen
            | Self::PutMany
            | Self::PutAtomic => true,
        }
    }
}

/// A key, its value, and what is allowed.
pub(super) type Wrong<'a> = (&'a str, String, &'a str);

impl Workload {
    pub(super) fn check(&self) -> Result<(), Wrong<'_>> {
        let within = |key, value: u32, most: u32, allowed| {
            if value <= most { Ok(()) } else { Err((key, value.to_string(), allowed)) }
        };
        within("workload.clients", self.clients, MAX_CLIENTS, "at most 1000")?;
        within("workload.retry_percent", self.retry_percent, 100, "0 to 100")?;
        within("workload.hop_percent", self.hop_percent, 100, "0 to 100")?;
        within("workload.value_bytes", self.value_bytes, 1 << 16, "at most 65536")?;
        within("workload.batch", self.batch, 100, "at most 100")?;
        if self.keys == 0 {
            return Err(("workload.keys", "0".to_owned(), "1 at least"));
        }
        if self.deadline == Micros::ZERO || self.pause == Micros::ZERO {
            return Err(("workload.deadline, pause", "0s".to_owned(), "more than 0s"));
        }
        if self.mix.values().all(|&weight| weight == 0) {
            return Err(("workload.mix", "empty".to_owned(), "an operation with a weight"));
        }
        let weightless = |levels: &BTreeMap<_, u32>| levels.values().all(|&weight| weight == 0);
        if weightless(&self.reads) || weightless(&self.writes) {
            let levels = "a level with a weight";
            return Err(("workload.reads, writes", "empty".to_owned(), levels));
        }
        let serial = [ConsistencyLevel::Serial, ConsistencyLevel::LocalSerial];
        if let Some(level) = serial.iter().find(|level| self.writes.contains_key(level)) {
            return Err(("workload.writes", level.name().to_owned(), "levels that are no SERIAL"));
        }
        let mut unreadable = serial.iter().chain(&[ConsistencyLevel::Any]);
        if let Some(level) = unreadable.find(|level| self.reads.contains_key(level)) {
            return Err(("workload.reads", level.name().to_owned(), "neither ANY nor SERIAL"));
        }
        Ok(())
    }
}

fn default_ttl() -> Micros {
    Micros::from_secs(2)
}

fn default_value_bytes() -> u32 {
    24
}

fn default_batch() -> u32 {
    4
}

fn default_levels() -> BTreeMap<ConsistencyLevel, u32> {
    BTreeMap::from([(ConsistencyLevel::Quorum, 1), (ConsistencyLevel::LocalQuorum, 1)])
}
