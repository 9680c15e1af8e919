//! `meridian dev`: a whole cluster on this machine, as real processes with real sockets, and the
//! commands that hurt it.
//!
//! One supervisor in the foreground: it keeps the nodes' processes ([`process`]), the link proxies
//! between datacenters, and a control door on loopback ([`control`]) that the other `meridian dev`
//! commands use. The folder remembers shape and ports ([`folder`]), so that data, addresses and
//! configuration stay the same over stops and starts.

mod args;
mod control;
mod folder;
mod health;
mod ports;
mod process;
mod report;
mod supervisor;

pub(crate) use args::DevArgs;
pub(crate) use folder::{DEFAULT_FOLDER, FOLDER_VARIABLE, running_nodes};

use crate::cli::output::{Failure, Output};
use crate::cli::{raise_open_files, runtime};

/// Starts a cluster, or controls the one that runs.
pub(crate) fn run(args: DevArgs, output: Output) -> Result<(), Failure> {
    let runtime = runtime()?;
    match args.command {
        Some(command) => runtime.block_on(control::ask(&args.data, command.into(), output)),
        None => {
            raise_open_files();
            runtime.block_on(supervisor::run(&args, output))
        }
    }
}
