//! Replica plans, tallies, put and get machines, read repair.
#![deny(missing_docs)]

pub mod message;
