//! `meridian server`: from arguments to options, logs, threads and a running node.

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use meridian_options::{Loaded, Options, Sources};

use super::output::Failure;

/// Where a configuration comes from.
#[derive(Clone, Debug, Args)]
pub(crate) struct SourceArgs {
    /// The node's TOML file.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Sets one key, over file and environment: `--set doors.grpc=off`. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub(crate) set: Vec<(String, String)>,
}

impl SourceArgs {
    /// Reads and validates the configuration.
    pub(crate) fn load(&self) -> Result<Loaded> {
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let sources = Sources {
            file: self.config.clone(),
            environment: environment.collect(),
            flags: self.set.clone(),
        };
        Options::load(&sources).context("configuration")
    }
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as section.key=value")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[derive(Debug, Args)]
pub(super) struct ServerArgs {
    #[command(flatten)]
    sources: SourceArgs,
    /// Stops as on SIGTERM when standard input ends: when whoever started it is gone.
    #[arg(long, hide = true)]
    stop_with_input: bool,
}

pub(super) fn run(args: &ServerArgs) -> Result<(), Failure> {
    let Loaded { options, .. } = args.sources.load()?;
    crate::logging::start(&options.telemetry.level, options.telemetry.format)?;
    raise_open_files();
    if args.stop_with_input {
        std::thread::Builder::new().name("parent".into()).spawn(stop_with_input)?;
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = options.node.worker_threads {
        builder.worker_threads(threads);
    }
    let runtime = builder.enable_all().thread_name("serve").build()?;
    runtime.block_on(crate::server::run(options))?;
    Ok(())
}

/// A node whose `meridian dev` was killed must not stay behind and hold its ports.
fn stop_with_input() {
    let mut input = std::io::stdin().lock();
    let mut buffer = [0; 64];
    while matches!(input.read(&mut buffer), Ok(read) if read > 0) {}
    let itself = rustix::process::getpid();
    if let Err(error) = rustix::process::kill_process(itself, rustix::process::Signal::TERM) {
        tracing::error!(%error, "the process that started this node is gone, but it cannot stop");
    }
}

/// Connections, tables and log files are all open files; the soft limit is often 1,024. Where it
/// cannot be raised, it stays, and what needs more says so when it does.
pub(crate) fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
