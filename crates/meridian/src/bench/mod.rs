//! `meridian bench`: load against any door, in two modes.
//!
//! *Closed loop*: every client sends its next request when the one before is answered. It shows the
//! throughput that so many clients get.
//!
//! *Open loop* (`--rate`): requests are due at fixed times, whatever became of those before, and
//! each latency counts from when the request was due, so that a stall is seen by everyone who would
//! have met it (Tene's "coordinated omission"). The generator's own lateness is not charged to the
//! server: a client that was idle when its request was due counts from when it woke.

mod args;
mod door;
mod grpc;
mod keys;
mod load;
mod report;
mod resp;
mod rest;

pub(crate) use args::BenchArgs;

use std::time::Instant;

use crate::cli::output::{Failure, Output};
use door::Connector;

/// Runs a benchmark and prints its figures.
pub(crate) fn run(args: &BenchArgs, output: Output) -> Result<(), Failure> {
    args.check()?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = args.threads {
        builder.worker_threads(threads);
    }
    builder.enable_all().build()?.block_on(async {
        let connector = Connector::new(args).await?;
        connector.prepare(args).await?;
        if args.fill {
            let begun = Instant::now();
            load::fill(args, &connector).await?;
            let seconds = begun.elapsed().as_secs_f64();
            output.note(format_args!("filled {} keys in {seconds:.1} s", args.keys));
        }
        let figures = load::run(args, &connector).await?;
        report::print(args, &connector, &figures, output)
    })
}
