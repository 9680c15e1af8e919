//! Replica plans, tallies, put, get and page machines, read repair: how many replicas become one
//! answer.
//!
//! Knows: consistency levels, preference lists, who must answer, who gets a hint, who is stale.
//! Must not know: how messages travel, how rows are stored, what time it is.
#![deny(missing_docs)]

mod failure;
pub mod get;
mod intent;
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

pub use failure::{Cause, Failure};
pub use get::{GetAction, GetActions, GetDone, GetEvent, GetMachine, GetOptions};
pub use intent::Intent;
pub use page::{PageAction, PageActions, PageDone, PageEvent, PageItem, PageMachine, PageTiming};
pub use plan::{ReadPlan, Segment, Segments, WritePlan};
pub use put::{PutAction, PutActions, PutDone, PutEvent, PutMachine, PutTiming, PutWrite};
pub use required::Access;
pub use route::{Route, route};
pub use tally::{Tally, Verdict};
