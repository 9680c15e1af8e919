//! How many replicas become one answer: replica plans, tallies, the machines of put, get and page,
//! read repair.
//!
//! A request is split in three. A *plan* ([`WritePlan`], [`ReadPlan`]) says who must answer and who
//! is down, and refuses what cannot be met before anything is sent. A *tally* ([`Tally`]) says
//! whether they did: pending, met, unreachable. A *machine*, one for each kind of request, says
//! what is done next. Longer, with every error: `docs/coordination.md`.
//!
//! # The contract of `step`
//!
//! A machine is driven by `step(event, now, &mut actions)`. It owns no clock, socket, thread or
//! randomness: time is an argument, and [`PutMachine::next_wakeup`] and its like say when a
//! `TimePassed` is due. Actions are done in their order. `Reply` comes once, `Done` last; events
//! after `Done` do nothing, so a late answer needs no care. Whatever order events come in, and
//! whichever of them never come, the machine replies by its deadline.
//!
//! # A put
//!
//! ```text
//! Minting ──Minted──▶ Replicating ──────────────────────────────▶ Done
//!    │                 copies: each replica at home, one forwarder  every replica acked,
//!    │                 in every other datacenter                    or has a hint
//!    │                 hints: for those down now, refused, lost,
//!    │                 or silent when the hint timer ends
//!    └─MintFailed─▶ Reply(not applied) ─▶ Done
//!
//! Reply, once, from Replicating: Ok when the level's acks are there; an error whose effect is
//! unknown when they cannot come any more, or at the deadline.
//! ```
//!
//! # A get
//!
//! ```text
//!            all agree: Reply                 held by as many as the level names: Reply
//!          ┌──────────────────▶ Done ◀───────────────────────────────┐
//! Matching ┤                                                         │
//! data +   └─ digests differ ─▶ Joining ──all data──▶ Repairing ─────┘
//! digests                       data from all         stale replicas are told the join
//!    │
//!    └─ ONE, and others were asked: Reply ─▶ Lingering ─▶ repairs in the background ─▶ Done
//! ```
//!
//! A replica that fails is replaced by a spare, and once, at the hedge timer, one spare more than
//! needed is asked.
//!
//! # A page
//!
//! ```text
//! Reading ──as many pages as the level names──▶ merge: rows that agree, keys that differ ─▶ Done
//! ```
//!
//! Knows: consistency levels, preference lists, who must answer, who gets a hint, who is stale.
//! Must not know: how messages travel, how rows are stored, what time it is.
//!
//! Invariants:
//! - One reply to a request. It is `Ok` only with the level's answers, and an error of a write says
//!   "not applied" only if nothing was sent.
//! - A hint is no ack (except at ANY), and no replica gets two hints for one write.
//! - Every replica of a minted write has acked it or has a hint when its machine is done.
//! - A read above ONE is answered with a row that as many replicas hold as its level names, so that
//!   a later read at the level does not see less.
#![deny(missing_docs)]

pub mod batch;
mod failure;
pub mod get;
pub mod message;
pub mod page;
pub mod plan;
pub mod put;
mod read_set;
mod required;
mod route;
pub mod tally;
#[cfg(test)]
mod testing;

pub use batch::{
    BatchAction, BatchDone, BatchEvent, BatchFailure, BatchMachine, BatchPlan, BatchWrite,
};
pub use failure::{Cause, Failure};
pub use get::{GetAction, GetActions, GetDone, GetEvent, GetMachine, GetOptions, HedgeBudget};
pub use page::{PageAction, PageActions, PageDone, PageEvent, PageItem, PageMachine, PageTiming};
pub use plan::{ReadPlan, Segment, Segments, WritePlan};
pub use put::{PutAction, PutActions, PutDone, PutEvent, PutMachine, PutTiming, PutWrite};
pub use required::Access;
pub use route::{Route, route};
pub use tally::{Tally, Verdict};
