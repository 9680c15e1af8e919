//! The causal core: how two versions of a row become one, and nothing else.
//!
//! A write is a [`Delta`]: one entry with one [`Dot`], and the [`Context`] that its writer had
//! seen. A replica remembers which dots it has in a [`VnodeClock`]; a stored [`Row`] keeps its
//! entries and only that part of its context which the clock's base does not cover. Replication,
//! hints, read repair, anti-entropy, compaction and reads all end in [`Row::join`].
//!
//! Two clients write without having seen each other; a third reads both values and replaces them:
//!
//! ```
//! use bytes::Bytes;
//! use meridian_crdt::{Actor, ConflictPolicy, Context, Delta, Dot, Entry, Row, VnodeClock};
//! use meridian_types::{Hlc, Incarnation, Millis, NodeId};
//!
//! let policy = ConflictPolicy::Siblings;
//! let write = |node, counter, value: &'static str, context| {
//!     let actor = Actor { node: NodeId(node), incarnation: Incarnation(42) };
//!     let value = Some(Bytes::from_static(value.as_bytes()));
//!     let entry = Entry { dot: Dot::new(actor, counter), stamp: Hlc::ZERO, expires: None, value };
//!     Delta { entry, context }
//! };
//! // What a replica does with a delta: nothing when its clock has the dot (rule 4).
//! let (mut row, mut clock) = (Row::default(), VnodeClock::default());
//! let mut apply = |row: &mut Row, delta: Delta| {
//!     if clock.insert(delta.entry.dot) {
//!         row.apply(policy, delta);
//!         row.strip(&clock);
//!     }
//!     row.reader_context(&clock)
//! };
//! apply(&mut row, write(1, 1, "from the us", Context::default()));
//! let seen = apply(&mut row, write(2, 1, "from the eu", Context::default()));
//! assert_eq!(row.visible(Millis(0)).count(), 2, "siblings");
//!
//! apply(&mut row, write(1, 2, "what a reader of both made of them", seen));
//! assert_eq!(row.visible(Millis(0)).count(), 1);
//! assert!(row.context().is_empty(), "the clock's base covers all that was replaced");
//! ```
//!
//! `docs/causality.md` tells the rules, `docs/formats/rows.md` the bytes.
//!
//! Sources: dotted version vectors (Preguiça et al., 2010), server-wide clocks per node
//! (Gonçalves et al., "DottedDB", 2017), delta-state CRDTs (Almeida, Shoker, Baquero, 2018).
//!
//! Knows: dots, clocks, contexts, rows, join.
//! Must not know: replicas, storage, time.
//!
//! Invariants: every type has one value for a state and one spelling for a value, so equal states
//! are equal bytes; decoders take any bytes and give a typed error; [`Row::join`] is commutative,
//! associative and idempotent as long as each side covers exactly what it has seen.
#![deny(missing_docs)]

mod clock;
mod codec;
mod context;
mod counters;
mod dot;
mod dotset;
mod evidence;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod row;
mod session;
mod token;

pub use clock::VnodeClock;
pub use context::Context;
pub use counters::CounterSet;
pub use dot::{Actor, Dot};
pub use dotset::DotSet;
pub use evidence::{Evidence, Promise};
pub use row::{Coverage, Covers, Delta, Entry, Row, RowVersion};
pub use session::{Demand, Session, SessionLimits, SessionToken, SessionTokenError};
pub use token::{ContextToken, TokenError, TokenKey, TokenScope};

pub use meridian_types::ConflictPolicy;
pub use meridian_types::varint::DecodeError;
