//! Merging tables: what to merge is decided by pure code over a plain view (`view`, `choice`, and
//! a file for each strategy), and done elsewhere (`stream`, `execute`).
//!
//! One layout serves every strategy. Level 0 holds sorted runs of one table each, newest first;
//! every other level is one sorted run of many tables. Leveled compaction keeps level 0 short;
//! the tiered strategies leave their runs in it and merge neighbours; the oldest ones of size-tiered
//! compaction each have a level for themselves.

pub(crate) mod choice;
mod collected;
pub(crate) mod execute;
mod expired;
mod leveled;
pub(crate) mod limiter;
pub(crate) mod merge;
pub(crate) mod outputs;
pub(crate) mod stream;
mod tiered;
pub(crate) mod view;
mod window;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
