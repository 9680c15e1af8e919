//! The one binary: assembly, signals, command line.
//!
//! Knows: which parts make a node, and what people and scripts ask on a command line.
//! Must not know: anything else.
#![deny(missing_docs)]
#![allow(
    clippy::disallowed_methods,
    reason = "the binary is where clocks, threads and the environment come from"
)]

mod bench;
mod cli;
mod dev;
mod logging;
mod server;

use std::process::ExitCode;

/// A server of many threads that allocate and free small buffers across each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
