//! The client against nodes that are scripted.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod calls;
mod failures;
mod fake;
