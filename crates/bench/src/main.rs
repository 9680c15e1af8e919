//! The storage engine beside its peers: the same work through one small trait, each engine and
//! repetition in a process of its own, round robin, and one table of medians and ratios.
//!
//! Knows: `meridian-lsm`, and the public interfaces of the peers. Must not know: anything inside an
//! engine; an engine is measured through what its users have.
//!
//! Invariants:
//! - every engine gets the same keys, values and order of operations, from the same seed;
//! - every answer is looked at: a wrong or missing value ends the run;
//! - it is a command and never a test: a test compares answers, not times.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark reads the clock, owns its threads and prints its table"
)]

mod child;
mod engine;
mod engines;
mod lines;
mod measure;
mod report;
mod work;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(about = "Measures the storage engine beside its peers")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The storage engine against embedded stores.
    Lsm(report::Plan),
    /// One engine, one repetition, one group of lines: what `lsm` starts for each.
    #[command(hide = true)]
    Child(child::Job),
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Lsm(plan) => report::run(&plan),
        Command::Child(job) => child::run(&job),
    }
}
