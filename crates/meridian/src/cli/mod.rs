//! The command line: what may be asked, and where it is answered.

mod config;
pub(crate) mod output;
mod serve;

pub(crate) use serve::raise_open_files;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use output::{Failure, Output};

const AFTER_HELP: &str = "\
Exit codes: 0 done; 1 refused, failed or not found; 2 wrong usage; 3 no node reached;
4 a write whose effect is unknown (it may still appear).";

/// A masterless key-value store that lives in several datacenters.
#[derive(Debug, Parser)]
#[command(name = "meridian", version, about, after_help = AFTER_HELP)]
struct Cli {
    /// Answers as JSON, for programs.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a whole cluster on this machine, or controls one that runs.
    Dev(crate::dev::DevArgs),
    /// Runs one node.
    Server(serve::ServerArgs),
    /// Checks a configuration, or prints the reference of all keys.
    Config(config::ConfigArgs),
    /// Prints the completions for a shell: `meridian completions bash > ...`.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Reads the command line and does what it says.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    let output = Output { json: cli.json };
    match dispatch(cli.command, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.failed(&failure),
    }
}

fn dispatch(command: Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::Dev(args) => crate::dev::run(args, output),
        Command::Server(args) => serve::run(&args),
        Command::Config(args) => config::run(&args, output),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "meridian", &mut std::io::stdout());
            Ok(())
        }
    }
}

/// A runtime for one command. Two threads: a command's own work and its sockets.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.worker_threads(2).enable_all().build()?)
}
