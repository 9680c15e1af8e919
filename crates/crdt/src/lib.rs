//! The causal core: how two versions of a row become one, and nothing else.
//!
//! A write is a [`Delta`]: one entry with one [`Dot`], and the [`Context`] that its writer had
//! seen. A replica remembers which dots it has in a [`VnodeClock`]; a stored [`Row`] keeps its
//! entries and only that part of its context which the clock's base does not cover. Replication,
//! hints, read repair, anti-entropy, compaction and reads all end in [`Row::join`].
//!
//! Sources: dotted version vectors (Preguiça et al., 2010), server-wide clocks per node
//! (Gonçalves et al., "DottedDB", 2017), delta-state CRDTs (Almeida, Shoker, Baquero, 2018).
//!
//! Knows: dots, clocks, contexts, rows, join.
//! Must not know: replicas, storage, time.
#![deny(missing_docs)]

mod clock;
mod codec;
mod context;
mod counters;
mod dot;
mod dotset;
mod row;
mod token;

pub use clock::VnodeClock;
pub use context::Context;
pub use counters::CounterSet;
pub use dot::{Actor, Dot};
pub use dotset::DotSet;
pub use row::{Coverage, Covers, Delta, Entry, Row, RowVersion};
pub use token::{ContextToken, TokenError, TokenKey, TokenScope};

pub use meridian_types::ConflictPolicy;
pub use meridian_types::varint::DecodeError;
