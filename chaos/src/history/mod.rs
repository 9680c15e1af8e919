//! What happened in a simulated world, as the checks read it.
//!
//! The world tells [`Observation`]s while it runs, and the [`Final`] state after everything has
//! had time to heal. Every value is written once in a run ([`WriteName`] is in its bytes), so a
//! value names its write; and every causal context that a client holds is told as the set of dots
//! that it is, so what a write covers is known without asking the system.
//!
//! Knows: the words of clients and of replicas (keys, dots, rows, levels).
//! Must not know: how the world runs them. Everything here is a value; no time, no chance.

mod end;
mod name;
mod observation;
mod oracle;
mod setting;
#[cfg(test)]
pub(crate) mod testing;

pub use end::{Final, ReplicaState, VnodeState};
pub use name::{ClientId, FaultId, Key, OpId, SessionId, WriteName};
pub use observation::{
    Answer, Ask, Attempt, Backlog, Failure, HintTally, Invocation, Loss, LossCause, Observation,
    ReadAnswer, Sample, Seen, What, WriteAnswer, WriteAsk, WriteKind,
};
pub use oracle::{Mint, Oracle, Reused, Sure, Told, Try, VnodeDot, Write};
pub use setting::{Need, Place, Setting, SyncPromise, TableSetting, overlap};
