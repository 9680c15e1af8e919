//! The command line: what may be asked, and where it is answered.

mod batch;
mod chaos;
mod cluster;
mod config;
pub(crate) mod connect;
mod figures;
mod import;
mod kv;
mod lsm;
pub(crate) mod output;
mod repair;
mod scan;
pub(crate) mod schema;
mod serve;
pub(crate) mod show;

pub(crate) use serve::raise_open_files;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use output::{Failure, Output};

const AFTER_HELP: &str = "\
Exit codes: 0 done; 1 refused, failed or not found; 2 wrong usage, or a check that could not be
decided; 3 no node reached;
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
    /// Reads a key: its value, or all concurrent ones, and the context for a put.
    Get(kv::GetArgs),
    /// Writes a key.
    Put(kv::PutArgs),
    /// Deletes a key.
    Del(kv::DelArgs),
    /// Writes many keys of a keyspace, all or none of them.
    Batch(batch::BatchArgs),
    /// Lists rows, in the order of the ring.
    Scan(scan::ScanArgs),
    /// Loads a file of JSON lines.
    Import(import::ImportArgs),
    /// Creates, lists and describes tables.
    Table(schema::TableArgs),
    /// Creates keyspaces.
    Keyspace(schema::KeyspaceArgs),
    /// Shows the cluster as one node sees it.
    Status(cluster::StatusArgs),
    /// Shows what every replica of a key stores.
    Replicas(cluster::ReplicasArgs),
    /// Decides about data that may be lost.
    Repair(repair::RepairArgs),
    /// Drives any door with load, and measures it.
    Bench(crate::bench::BenchArgs),
    /// Runs simulated clusters that are made to go wrong, from seeds.
    Chaos(chaos::ChaosArgs),
    /// Looks into the files of the storage engine.
    Lsm(lsm::LsmArgs),
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
        Command::Get(args) => wait(kv::get(&args, output)),
        Command::Put(args) => wait(kv::put(&args, output)),
        Command::Del(args) => wait(kv::del(&args, output)),
        Command::Batch(args) => wait(batch::batch(&args, output)),
        Command::Scan(args) => wait(scan::scan(&args, output)),
        Command::Import(args) => wait(import::import(&args, output)),
        Command::Table(args) => wait(schema::tables(args, output)),
        Command::Keyspace(args) => wait(schema::keyspace(args, output)),
        Command::Status(args) => wait(cluster::status(&args, output)),
        Command::Replicas(args) => wait(cluster::replicas(&args, output)),
        Command::Repair(args) => wait(repair::repair(args, output)),
        Command::Bench(args) => crate::bench::run(&args, output),
        Command::Chaos(args) => chaos::run(args, output),
        Command::Lsm(args) => lsm::run(&args, output),
        Command::Config(args) => config::run(&args, output),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "meridian", &mut std::io::stdout());
            Ok(())
        }
    }
}

fn wait(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    runtime()?.block_on(command)
}

/// A runtime for one command. Two threads: a command's own work and its sockets.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.worker_threads(2).enable_all().build()?)
}
